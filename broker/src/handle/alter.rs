//! Changing the values of several resources in one request, each by itself. Both requests that
//! change values, the old one and the newer one, end up here.

use std::collections::BTreeMap;

use super::resources::{self, ResourceError};
use crate::edge::{Told, tell};
use crate::node::{Decided, Node};
use crate::topics::configs::{self, Named, Wish};

/// A resource as a request names it, and what is wished for it.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub kind: i8,
    pub name: String,
    pub wish: Result<Wish, ResourceError>,
}

/// Decides about each wish, in order; what comes of each is in the same order.
pub(super) async fn alter(
    node: &Node,
    wanted: &[Wanted],
    only_validate: bool,
) -> Vec<Result<(), Told>> {
    let wanted = wanted.to_vec();
    let count = wanted.len();
    let decided = node.decide(move |image, rules, _| {
        let mut named: BTreeMap<(i8, &str), u32> = BTreeMap::new();
        for it in &wanted {
            *named.entry((it.kind, &it.name)).or_default() += 1;
        }
        // Each wish is judged by what the wishes before it leave behind.
        let mut next = image.clone();
        let (mut events, mut say) = (Vec::new(), Vec::new());
        for it in &wanted {
            let twice = 1 < named[&(it.kind, it.name.as_str())];
            let planned = accept(it, twice).map_err(|it| tell(&it)).and_then(|(named, wish)| {
                configs::plan(&next, rules.layers.settings, rules.node, &named, wish)
                    .map_err(|it| tell(&it))
            });
            if let Ok(Some(event)) = &planned {
                next.apply(event).expect("a plan follows from the image it was given");
                events.push(event.clone());
            }
            say.push(planned.map(|_| ()));
        }
        if only_validate {
            events.clear();
        }
        Decided { events, say }
    });
    match decided.await {
        Ok(said) => said,
        Err(refused) => {
            let told = tell(&super::Undecided::Refused(refused));
            vec![Err(told); count]
        }
    }
}

fn accept(it: &Wanted, twice: bool) -> Result<(Named, &Wish), ResourceError> {
    if twice {
        return Err(ResourceError::Twice);
    }
    let wish = it.wish.as_ref().map_err(Clone::clone)?;
    let name = it.name.clone();
    match it.kind {
        resources::TOPIC => Ok((Named::Topic(name), wish)),
        resources::BROKER => Ok((Named::Broker(name), wish)),
        resources::BROKER_LOGGER => Err(ResourceError::NotOffered { what: "loggers" }),
        resources::CLIENT_METRICS => Err(ResourceError::NotOffered { what: "client metrics" }),
        resources::GROUP => Err(ResourceError::NotOffered { what: "settings of single groups" }),
        kind => Err(ResourceError::Unknown { kind }),
    }
}
