//! Charts as SVG: lines through points, over a linear or logarithmic axis.
//!
//! Comes in: series of points in the units of the axes. Goes out: one SVG document. Points that an axis
//! cannot show (not finite, or not above zero on a logarithmic axis) are left out, and the axes include
//! zero or whole decades, so that charts of two runs look alike.

use std::ops::Range;

use plotters::prelude::*;

/// Width and height in pixels.
const SIZE: (u32, u32) = (720, 420);
/// Blue, orange, green, purple, red, and grey: also for readers who do not see red and green apart
/// (Okabe and Ito).
const COLORS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(213, 94, 0),
    RGBColor(110, 110, 110),
];

/// How the values of an axis are placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// From zero on.
    Linear,
    /// In decades.
    Logarithmic,
}

/// An axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Axis {
    /// What it shows, with the unit.
    pub label: String,
    /// How.
    pub scale: Scale,
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points, in the order in which they are connected.
    pub points: Vec<(f64, f64)>,
}

/// A chart.
#[derive(Debug, Clone, PartialEq)]
pub struct Chart {
    /// What stands above it.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines.
    pub series: Vec<Series>,
}

/// Why there is no chart.
#[derive(Debug, thiserror::Error)]
#[error("drawing the chart {title:?}: {reason}")]
pub struct Error {
    title: String,
    reason: String,
}

impl Axis {
    /// An axis that begins at zero.
    #[must_use]
    pub fn linear(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            scale: Scale::Linear,
        }
    }

    /// An axis of decades.
    #[must_use]
    pub fn logarithmic(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            scale: Scale::Logarithmic,
        }
    }

    /// Where a value is on the axis, if it can be shown.
    fn place(&self, value: f64) -> Option<f64> {
        match self.scale {
            Scale::Linear => value.is_finite().then_some(value),
            Scale::Logarithmic => {
                let place = value.log10();
                place.is_finite().then_some(place)
            }
        }
    }

    /// The range that shows all of these places.
    fn range(&self, places: impl Iterator<Item = f64> + Clone) -> Range<f64> {
        let (low, high) = places.fold((f64::MAX, f64::MIN), |(low, high), place| {
            (low.min(place), high.max(place))
        });
        match self.scale {
            _ if low > high => 0.0..1.0,
            Scale::Linear if high > 0.0 => 0.0..high * 1.05,
            Scale::Linear => 0.0..1.0,
            Scale::Logarithmic => low.floor()..high.ceil().max(low.floor() + 1.0),
        }
    }

    /// How many places have a text at most.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a number of decades"
    )]
    fn labels(&self, range: &Range<f64>) -> usize {
        match self.scale {
            Scale::Linear => 8,
            Scale::Logarithmic => (range.end - range.start).round() as usize + 1,
        }
    }

    /// The text at a place.
    fn text(&self, place: f64) -> String {
        match self.scale {
            Scale::Linear => short(place),
            // Between the decades there are lines only.
            Scale::Logarithmic if (place - place.round()).abs() > 1e-6 => String::new(),
            Scale::Logarithmic => short(10_f64.powf(place)),
        }
    }
}

/// At most three decimals, without zeros at the end.
fn short(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
}

impl Chart {
    /// Draws it.
    ///
    /// # Errors
    /// When plotters cannot draw it.
    pub fn svg(&self) -> Result<String, Error> {
        let mut text = String::new();
        let drawn = self.draw(&SVGBackend::with_string(&mut text, SIZE).into_drawing_area());
        drawn.map_err(|error| Error {
            title: self.title.clone(),
            reason: error.to_string(),
        })?;
        Ok(text)
    }

    fn draw(
        &self,
        area: &DrawingArea<SVGBackend<'_>, plotters::coord::Shift>,
    ) -> Result<(), DrawingAreaErrorKind<std::io::Error>> {
        let placed: Vec<Vec<(f64, f64)>> = self.series.iter().map(|one| self.placed(one)).collect();
        let points = placed.iter().flatten();
        let x_range = self.x.range(points.clone().map(|(x, _)| *x));
        let y_range = self.y.range(points.map(|(_, y)| *y));
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", 18))
            .margin(12)
            .margin_right(44)
            .x_label_area_size(44)
            .y_label_area_size(72)
            .build_cartesian_2d(x_range.clone(), y_range.clone())?;
        chart
            .configure_mesh()
            .x_labels(self.x.labels(&x_range))
            .y_labels(self.y.labels(&y_range))
            .light_line_style(TRANSPARENT)
            .x_desc(&self.x.label)
            .y_desc(&self.y.label)
            .x_label_formatter(&|place| self.x.text(*place))
            .y_label_formatter(&|place| self.y.text(*place))
            .label_style(("sans-serif", 13))
            .draw()?;
        for ((one, points), color) in self.series.iter().zip(&placed).zip(COLORS.iter().cycle()) {
            let line = LineSeries::new(points.iter().copied(), color.stroke_width(2)).point_size(3);
            chart
                .draw_series(line)?
                .label(&one.name)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2))
                });
        }
        // The title and the axes name a single line.
        if self.series.len() > 1 {
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.3))
                .label_font(("sans-serif", 13))
                .draw()?;
        }
        area.present()
    }

    fn placed(&self, series: &Series) -> Vec<(f64, f64)> {
        let place = |&(x, y): &(f64, f64)| Some((self.x.place(x)?, self.y.place(y)?));
        series.points.iter().filter_map(place).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> Chart {
        Chart {
            title: "Loss & load".to_owned(),
            x: Axis::logarithmic("packets/s"),
            y: Axis::linear("share"),
            series: vec![
                Series {
                    name: "with podspan".to_owned(),
                    points,
                },
                Series {
                    name: "without".to_owned(),
                    points: Vec::new(),
                },
            ],
        }
    }

    #[test]
    fn a_chart_has_its_title_axes_and_line() {
        let svg = chart(vec![(100.0, 1.0), (1000.0, 0.5)]).svg().unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        for text in [
            "Loss &amp; load",
            "packets/s",
            "share",
            "with podspan",
            "1000",
        ] {
            assert!(svg.contains(text), "{text} in {svg}");
        }
        assert!(svg.contains("<polyline"), "{svg}");
    }

    #[test]
    fn points_that_cannot_be_shown_are_left_out() {
        let with = chart(vec![(100.0, 1.0), (0.0, 1.0), (1000.0, f64::NAN)]);
        assert_eq!(
            with.svg().unwrap(),
            chart(vec![(100.0, 1.0)]).svg().unwrap()
        );
        chart(Vec::new()).svg().unwrap();
    }

    #[test]
    fn an_axis_shows_whole_decades_or_begins_at_zero() {
        let axis = Axis::logarithmic("x");
        assert_eq!(axis.range([2.3, 3.1].into_iter()), 2.0..4.0);
        assert_eq!(axis.range([2.0].into_iter()), 2.0..3.0);
        assert_eq!(
            (axis.text(3.0), axis.text(2.5)),
            ("1000".to_owned(), String::new())
        );
        assert_eq!(
            Axis::linear("x").range([10.0].into_iter()).start.to_bits(),
            0
        );
    }
}
