//! Stories of those who knock, in the simulator: how fast they are taken, by all lanes together.

use corelane_core::time::Nanos;
use corelane_net::messages::api_versions::ApiVersionsRequest;
use corelane_net::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};

use crate::testing::{Client, answer, story};

/// The kind of resource that a broker is.
const BROKER: i8 = 4;

/// How long it takes until so many who knock one after the other were taken and answered.
async fn knock(client: &Client, count: u64) -> Nanos {
    let began = client.now();
    for _ in 0..count {
        let mut another = client.another().await;
        another.ask(0, &ApiVersionsRequest::default()).await;
    }
    client.now().since(began)
}

async fn allow(client: &mut Client, per_second: &str) {
    let config = AlterableConfig {
        name: "max.connection.creation.rate",
        config_operation: 0,
        value: Some(per_second),
    };
    let resource = AlterConfigsResource {
        resource_type: BROKER,
        resource_name: "1",
        configs: [config].into(),
    };
    let set = IncrementalAlterConfigsRequest { resources: [resource].into(), ..Default::default() };
    let frame = client.ask(1, &set).await;
    let told = answer(1, &frame, &set);
    assert_eq!(told.responses.first().expect("one broker").error_code, 0);
}

#[test]
fn no_more_are_taken_in_a_second_than_are_allowed_and_nobody_is_turned_away() {
    story(2, |mut client| async move {
        let free = knock(&client, 100).await;
        assert!(free < Nanos::secs(1), "without a limit 100 were taken in {free:?}");
        for (per_second, count) in [(10_u64, 40_u64), (50, 100)] {
            allow(&mut client, &per_second.to_string()).await;
            let took = knock(&client, count).await;
            // One more comes in on each lane before its door knows; a tenth of a second's come at once.
            let at_once = 2 + per_second.div_ceil(10) + 1;
            let least = Nanos::secs(1).0 / per_second * (count - at_once);
            assert!(
                least <= took.0,
                "{count} in {took:?}, where {per_second} a second are allowed"
            );
            assert!(took < Nanos::secs(2 * count / per_second), "{count} took {took:?}");
        }
        allow(&mut client, "2147483647").await;
        let free = knock(&client, 100).await;
        assert!(free < Nanos::secs(1), "again without a limit 100 were taken in {free:?}");
        let turned: Vec<_> =
            client.printed().into_iter().filter(|it| it.contains("turned away")).collect();
        assert!(turned.is_empty(), "{turned:?}");
    });
}
