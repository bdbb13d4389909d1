//! Line plots as inline SVG: no script, no font, nothing to load. Pure.

use std::fmt::Write as _;

const WIDTH: f64 = 920.0;
const HEIGHT: f64 = 230.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 26.0;
const COLOURS: [&str; 10] =
    ["#0b6e99", "#d1495b", "#3a8f47", "#e09f3e", "#6a4c93", "#2a9d8f", "#8d6a4f", "#5c677d", "#c9184a", "#4361ee"];

/// A line, or what stands on the line before it when areas are stacked.
pub(super) struct Line {
    pub(super) name: String,
    /// Second and value.
    pub(super) points: Vec<(f64, f64)>,
    /// Drawn broad and pale, so that a line upon it does not hide it.
    pub(super) is_broad: bool,
}

/// One plot.
pub(super) struct Plot<'a> {
    pub(super) title: &'a str,
    pub(super) unit: &'a str,
    pub(super) lines: Vec<Line>,
    /// Lines as areas one above the other.
    pub(super) is_stacked: bool,
    /// From 1 on by powers of ten: latencies are far apart.
    pub(super) is_logarithmic: bool,
    /// A value that is drawn across.
    pub(super) limit: Option<f64>,
}

/// What all plots have below them.
pub(super) struct Ground<'a> {
    /// The last second.
    pub(super) end: f64,
    /// Times that are marked, with a number that the page explains.
    pub(super) marks: &'a [(f64, usize)],
    /// Time spans that are shaded.
    pub(super) shades: &'a [(f64, f64)],
}

impl Plot<'_> {
    /// The figure.
    pub(super) fn draw(&self, ground: &Ground<'_>) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let (title, unit) = (escape(self.title), escape(self.unit));
        let _ = write!(out, "<figure><figcaption>{title}, {unit}{}</figcaption>", self.legend());
        let _ = write!(out, r#"<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">"#);
        let top = self.top();
        let scale = Scale { end: ground.end.max(1.0), top, is_logarithmic: self.is_logarithmic };
        for (from, until) in ground.shades {
            let (x, until) = (scale.x(*from), scale.x(*until));
            let (width, height) = ((until - x).max(0.0), HEIGHT - TOP - BOTTOM);
            let _ = write!(out, r#"<rect class="s" x="{x:.1}" y="{TOP}" width="{width:.1}" height="{height}"/>"#);
        }
        self.grid(&mut out, &scale);
        self.curves(&mut out, &scale);
        if let Some(limit) = self.limit.filter(|limit| *limit <= top) {
            let y = scale.y(limit);
            let _ = write!(out, r#"<path class="l" d="M{LEFT} {y:.1}H{}"/>"#, WIDTH - RIGHT);
        }
        for (at, number) in ground.marks {
            let x = scale.x(*at);
            let _ = write!(out, r#"<path class="m" d="M{x:.1} {TOP}V{}"/>"#, HEIGHT - BOTTOM);
            let _ = write!(out, r#"<text class="m" x="{:.1}" y="{}">{number}</text>"#, x + 3.0, TOP + 10.0);
        }
        out.push_str("</svg></figure>\n");
        out
    }

    fn legend(&self) -> String {
        let entry = |(index, line): (usize, &Line)| {
            format!(r#" <span style="color:{}">&#9632;</span> {}"#, colour(index), escape(&line.name))
        };
        let entries: String = self.lines.iter().enumerate().map(entry).collect();
        format!("<small>{entries}</small>")
    }

    /// The highest value, rounded up to one that reads well.
    fn top(&self) -> f64 {
        let most = if self.is_stacked {
            let count = self.lines.iter().map(|line| line.points.len()).max().unwrap_or(0);
            let sum = |index: usize| self.lines.iter().filter_map(|line| line.points.get(index)).map(|(_, y)| y).sum();
            (0..count).map(sum).fold(0.0, f64::max)
        } else {
            self.lines.iter().flat_map(|line| &line.points).map(|(_, y)| *y).fold(0.0, f64::max)
        };
        if self.is_logarithmic { 10_f64.powf(most.max(10.0).log10().ceil()) } else { round_up(most) }
    }

    fn grid(&self, out: &mut String, scale: &Scale) {
        let steps: Vec<f64> = if self.is_logarithmic {
            (0..=scale.top.log10().round() as i32).map(|power| 10_f64.powi(power)).collect()
        } else {
            (0..=4).map(|part| scale.top * f64::from(part) / 4.0).collect()
        };
        for value in steps {
            let y = scale.y(value);
            let _ = write!(out, r#"<path class="g" d="M{LEFT} {y:.1}H{}"/>"#, WIDTH - RIGHT);
            let _ = write!(out, r#"<text class="y" x="{}" y="{:.1}">{}</text>"#, LEFT - 6.0, y + 4.0, short(value));
        }
        let step = round_up(scale.end / 8.0).max(1.0);
        let mut at = 0.0;
        while at <= scale.end {
            let (x, y) = (scale.x(at), HEIGHT - 8.0);
            let _ = write!(out, r#"<text class="x" x="{x:.1}" y="{y}">{} s</text>"#, short(at));
            at += step;
        }
    }

    fn curves(&self, out: &mut String, scale: &Scale) {
        let mut below: Vec<f64> = Vec::new();
        for (index, line) in self.lines.iter().enumerate() {
            let colour = colour(index);
            if !self.is_stacked {
                let path = path(line.points.iter().copied(), scale);
                let class = if line.is_broad { "b" } else { "c" };
                let _ = write!(out, r#"<path class="{class}" stroke="{colour}" d="{path}"/>"#);
                continue;
            }
            below.resize(line.points.len(), 0.0);
            let above: Vec<(f64, f64)> =
                line.points.iter().zip(&below).map(|((x, y), below)| (*x, y + below)).collect();
            let base = line.points.iter().zip(&below).map(|((x, _), below)| (*x, *below)).rev();
            let path = path(above.iter().copied().chain(base), scale);
            let _ = write!(out, r#"<path fill="{colour}" fill-opacity="0.75" d="{path}Z"/>"#);
            below = above.into_iter().map(|(_, y)| y).collect();
        }
    }
}

struct Scale {
    end: f64,
    top: f64,
    is_logarithmic: bool,
}

impl Scale {
    fn x(&self, second: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * (second / self.end).clamp(0.0, 1.0)
    }

    fn y(&self, value: f64) -> f64 {
        let share = if self.is_logarithmic { value.max(1.0).log10() / self.top.log10() } else { value / self.top };
        HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share.clamp(0.0, 1.0)
    }
}

fn path(points: impl Iterator<Item = (f64, f64)>, scale: &Scale) -> String {
    let mut path = String::new();
    for (x, y) in points {
        let command = if path.is_empty() { 'M' } else { 'L' };
        let _ = write!(path, "{command}{:.1} {:.1}", scale.x(x), scale.y(y));
    }
    path
}

fn colour(index: usize) -> &'static str {
    COLOURS[index % COLOURS.len()]
}

/// 1, 2, 4, 5 or 8 times a power of ten, not below the value; 1 for nothing.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10_f64.powf(value.log10().floor());
    [1.0, 2.0, 4.0, 5.0, 8.0, 10.0]
        .map(|step| step * power)
        .into_iter()
        .find(|top| *top >= value * 0.999)
        .unwrap_or(value)
}

/// A number with few digits.
pub(super) fn short(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{}M", trim(value / 1e6)),
        _ if value >= 1e4 => format!("{}k", trim(value / 1e3)),
        _ => trim(value),
    }
}

fn trim(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text as HTML.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plot(points: &[(f64, f64)], is_stacked: bool, is_logarithmic: bool) -> String {
        let lines = vec![
            Line { name: "a<b".to_owned(), points: points.to_vec(), is_broad: false },
            Line { name: "b".to_owned(), points: points.to_vec(), is_broad: false },
        ];
        let plot = Plot { title: "t", unit: "ms", lines, is_stacked, is_logarithmic, limit: Some(1.0) };
        plot.draw(&Ground { end: 10.0, marks: &[(5.0, 1)], shades: &[(2.0, 4.0)] })
    }

    #[test]
    fn values_are_where_their_axis_says() {
        let text = plot(&[(0.0, 0.0), (10.0, 100.0)], false, false);
        assert!(text.contains("M64.0 204.0L908.0 14.0"), "from the lower left to the upper right: {text}");
        assert!(text.contains("a&lt;b") && text.contains(">100<") && text.contains(">1</text>"), "{text}");
        let stacked = plot(&[(0.0, 50.0), (10.0, 50.0)], true, false);
        assert!(stacked.contains("M64.0 14.0L908.0 14.0L908.0 109.0L64.0 109.0Z"), "{stacked}");
        let logarithmic = plot(&[(0.0, 1.0), (10.0, 100.0)], false, true);
        assert!(logarithmic.contains("M64.0 204.0L908.0 14.0"), "{logarithmic}");
    }

    #[test]
    fn nothing_and_odd_values_make_no_odd_numbers() {
        for text in [plot(&[], false, false), plot(&[], true, true), plot(&[(0.0, 0.0)], true, false)] {
            assert!(!text.contains("NaN") && !text.contains("inf"), "{text}");
        }
        assert_eq!([0.0, 0.7, 3.0, 99.0, 101.0].map(round_up), [1.0, 0.8, 4.0, 100.0, 200.0]);
        assert_eq!([0.5, 1_500.0, 20_000.0, 2.5e6].map(short), ["0.5", "1500", "20k", "2.5M"]);
    }
}
