//! Lines and bars as SVG, drawn from numbers alone.

use super::summary::short;
use std::fmt::Write;

/// A line through points, or the length of a bar.
pub(super) struct Line {
    pub(super) name: String,
    /// Which of the page's colours it has.
    pub(super) colour: usize,
    pub(super) points: Vec<(f64, f64)>,
}

/// What the axis across shows.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Across {
    /// 0, 90, 99, 99.9 %...: each nine as far from the last.
    Quantiles,
    Seconds,
}

const WIDTH: f64 = 620.0;
const HEIGHT: f64 = 260.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 30.0;
/// Quantiles end at so many nines.
const NINES: f64 = 5.0;
const BAR_HEIGHT: f64 = 26.0;

/// A plot of latencies, both axes made for tails: upwards by powers of ten.
pub(super) fn curves(lines: &[Line], across: Across, up: &str) -> String {
    let points = || lines.iter().flat_map(|it| &it.points);
    let most = points().map(|it| it.1).fold(0.0, f64::max);
    if most <= 0.0 {
        return "<p>nothing was seen</p>\n".to_owned();
    }
    let logarithmic = across == Across::Quantiles;
    let positive = points().map(|it| it.1).filter(|it| 0.0 < *it);
    let least = if logarithmic { positive.fold(most, f64::min) } else { 0.0 };
    let (low, high) = if logarithmic {
        (least.log10().floor(), most.log10().ceil().max(least.log10().floor() + 1.0))
    } else {
        (0.0, most * 1.05)
    };
    let end = match across {
        Across::Quantiles => NINES,
        Across::Seconds => points().map(|it| it.0).fold(1.0, f64::max),
    };
    let x = |at: f64| LEFT + (WIDTH - LEFT - RIGHT) * at.clamp(0.0, end) / end;
    let y = |value: f64| {
        let value = if logarithmic { value.log10().max(low) } else { value };
        TOP + (HEIGHT - TOP - BOTTOM) * (high - value) / (high - low)
    };
    let mut svg = open(HEIGHT);
    for (value, label) in steps(low, high, logarithmic) {
        let at = y(value);
        put(
            &mut svg,
            format_args!("<line class=g x1={LEFT} x2={} y1={at:.1} y2={at:.1} />", WIDTH - RIGHT),
        );
        put(
            &mut svg,
            format_args!("<text x={} y={:.1} text-anchor=end>{label}</text>", LEFT - 6.0, at + 4.0),
        );
    }
    for (at, label) in marks(across, end) {
        // A label in the corner would be cut in its middle.
        let anchor = if at < end { "middle" } else { "end" };
        let at = x(at);
        put(
            &mut svg,
            format_args!("<text x={at:.1} y={} text-anchor={anchor}>{label}</text>", HEIGHT - 8.0),
        );
    }
    put(&mut svg, format_args!("<text class=u x={LEFT} y=10>{}</text>", escaped(up)));
    for line in lines {
        let points = line.points.iter().filter(|it| !logarithmic || 0.0 < it.1);
        let points: Vec<_> = points.map(|it| format!("{:.1},{:.1}", x(it.0), y(it.1))).collect();
        put(
            &mut svg,
            format_args!("<polyline class=c{} points='{}' />", line.colour, points.join(" ")),
        );
    }
    svg + "</svg>\n"
}

/// One bar for each line, as long as its only point says.
pub(super) fn bars(lines: &[Line], unit: &str) -> String {
    let value = |it: &Line| it.points.first().map_or(0.0, |it| it.1);
    let most = lines.iter().map(value).fold(0.0, f64::max);
    if most <= 0.0 {
        return "<p>nothing was seen</p>\n".to_owned();
    }
    let left = 110.0;
    let mut svg = open(BAR_HEIGHT * lines.len() as f64 + 8.0);
    for (at, line) in lines.iter().enumerate() {
        let top = BAR_HEIGHT * at as f64 + 4.0;
        let long = (WIDTH - left - 110.0) * value(line) / most;
        let text = top + 15.0;
        put(
            &mut svg,
            format_args!(
                "<text x={} y={text:.1} text-anchor=end>{}</text>",
                left - 8.0,
                escaped(&line.name)
            ),
        );
        put(
            &mut svg,
            format_args!(
                "<rect class=b{} x={left} y={top:.1} width={long:.1} height={} />",
                line.colour,
                BAR_HEIGHT - 6.0
            ),
        );
        put(
            &mut svg,
            format_args!(
                "<text x={:.1} y={text:.1}>{} {}</text>",
                left + long + 6.0,
                short(value(line)),
                escaped(unit)
            ),
        );
    }
    svg + "</svg>\n"
}

/// A quantile's place: how many nines it has.
pub(super) fn nines(quantile: f64) -> f64 {
    let rest = (1.0 - quantile).max(10f64.powf(-NINES));
    -rest.log10()
}

fn open(height: f64) -> String {
    format!("<svg viewBox='0 0 {WIDTH} {height}' role=img>\n")
}

fn put(svg: &mut String, what: std::fmt::Arguments<'_>) {
    writeln!(svg, "{what}").expect("memory takes text");
}

/// Where the lines across are, and what stands beside them.
fn steps(low: f64, high: f64, logarithmic: bool) -> Vec<(f64, String)> {
    if logarithmic {
        let powers = low as i32..=high as i32;
        return powers.map(|it| (10f64.powi(it), plain(10f64.powi(it)))).collect();
    }
    let rough = high / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|it| it * power).into_iter().find(|it| rough <= *it);
    let step = step.unwrap_or(10.0 * power);
    let count = (high / step) as u32;
    (0..=count).map(|it| (f64::from(it) * step, plain(f64::from(it) * step))).collect()
}

fn marks(across: Across, end: f64) -> Vec<(f64, String)> {
    match across {
        Across::Quantiles => ["0", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"]
            .iter()
            .enumerate()
            .map(|(nines, label)| (nines as f64, (*label).to_owned()))
            .collect(),
        Across::Seconds => {
            let step = (end / 6.0).ceil().max(1.0);
            let count = (end / step) as u32;
            (0..=count).map(|it| f64::from(it) * step).map(|it| (it, format!("{it} s"))).collect()
        }
    }
}

fn plain(value: f64) -> String {
    let text = format!("{value:.4}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(points: &[(f64, f64)]) -> Line {
        Line { name: "a <b>".to_owned(), colour: 1, points: points.to_vec() }
    }

    #[test]
    fn a_curve_is_inside_its_frame() {
        let svg = curves(
            &[line(&[(0.0, 0.2), (nines(0.999), 40.0), (nines(1.0), 900.0)])],
            Across::Quantiles,
            "ms",
        );
        let points =
            svg.split("points='").nth(1).and_then(|it| it.split('\'').next()).expect("a line");
        for point in points.split(' ') {
            let (x, y) = point.split_once(',').expect("a point");
            let (x, y): (f64, f64) = (x.parse().expect("a number"), y.parse().expect("a number"));
            assert!(
                (LEFT..=WIDTH - RIGHT).contains(&x) && (TOP..=HEIGHT - BOTTOM).contains(&y),
                "{point}"
            );
        }
        for label in [">0.1<", ">1000<", ">99.9 %<"] {
            assert!(svg.contains(label), "{label}: {svg}");
        }
    }

    #[test]
    fn bars_are_as_long_as_what_they_say() {
        let svg = bars(&[line(&[(0.0, 4.0)]), line(&[(0.0, 1.0)])], "s");
        assert!(svg.contains("width=400.0") && svg.contains("width=100.0"), "{svg}");
        assert!(svg.contains("a &lt;b&gt;") && !svg.contains("<b>"), "{svg}");
        assert!(bars(&[], "s").contains("nothing was seen"));
    }

    #[test]
    fn nines_are_counted() {
        assert_eq!([0.0, 0.9, 0.999, 1.0].map(|it| nines(it).round()), [0.0, 1.0, 3.0, 5.0]);
    }
}
