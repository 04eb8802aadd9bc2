//! Charts as inline SVG: they need no script, scale with the page and take their colours from the style sheet. What they
//! show is also in a table or a label, for those who do not see them.

use super::super::super::{
    html::{Html, html},
    units,
};
use matrixai_proto::v1;

/// Size of the drawing in its own units, and the room for labels left and below.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 44.0;
const BELOW: f64 = 26.0;
const MARGIN: f64 = 10.0;

/// Height of the bar of shares.
const BAR: f64 = 22.0;

/// Colours of the style sheet for shares; they repeat.
const COLOURS: usize = 4;

/// Most dots and round numbers along the axis before they are thinned out.
const MARKS_MAX: usize = 40;
const LABELS_MAX: usize = 12;

/// Share of right answers on the watch rows after each round.
pub(super) fn accuracy(rounds: &[v1::RoundFigure], target_e6: u32) -> Html {
    let points: Vec<(u32, f64)> = rounds
        .iter()
        .filter(|round| round.watch_total > 0)
        .map(|round| (round.round, f64::from(round.watch_correct) / f64::from(round.watch_total)))
        .collect();
    let Some((last_round, last)) = points.last().copied() else {
        return html("<p class=\"empty\">The curve begins with the first round.</p>", &[]);
    };
    let x = |at: usize| {
        let steps = (points.len() - 1).max(1) as f64;
        LEFT + (WIDTH - LEFT - MARGIN) * at as f64 / steps
    };
    let y = |share: f64| MARGIN + (HEIGHT - MARGIN - BELOW) * (1.0 - share.clamp(0.0, 1.0));
    let path: Vec<String> =
        points.iter().enumerate().map(|(at, (_, share))| format!("{:.1},{:.1}", x(at), y(*share))).collect();
    let grid: Html = [0.0, 0.25, 0.5, 0.75, 1.0].into_iter().map(|share| line(y(share), "axis", share)).collect();
    let dots: Html = every(points.len(), MARKS_MAX)
        .map(|at| {
            let (round, share) = points[at];
            let title = format!("Round {round}: {:.1} %", share * 100.0);
            html(
                "<circle class=\"dot\" cx=\"{}\" cy=\"{}\" r=\"4\"><title>{}</title></circle>",
                &[&coordinate(x(at)), &coordinate(y(share)), &title],
            )
        })
        .collect();
    let labels: Html = every(points.len(), LABELS_MAX)
        .map(|at| {
            html(
                "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                &[&coordinate(x(at)), &coordinate(HEIGHT - 6.0), &points[at].0],
            )
        })
        .collect();
    let target = if target_e6 == 0 { Html::default() } else { line(y(f64::from(target_e6) / 1e6), "target", -1.0) };
    let summary = format!("Accuracy on the watch rows: {:.1} % after round {last_round}", last * 100.0);
    html(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{}\">{}{}<polyline class=\"curve\" points=\"{}\"/>{}{}</svg>\
         <p class=\"quiet small\">{}; the dashed line is the accuracy wanted on the validation rows, {}.</p>",
        &[
            &coordinate(WIDTH),
            &coordinate(HEIGHT),
            &summary,
            &grid,
            &target,
            &path.join(" "),
            &dots,
            &labels,
            &summary,
            &units::percent_e6(target_e6),
        ],
    )
}

/// The machines' shares of the tasks as one bar.
pub(super) fn shares(shares: &[v1::Share]) -> Html {
    if shares.iter().all(|share| share.share_e6 == 0) {
        return Html::default();
    }
    let mut from = 0.0;
    let parts: Html = shares
        .iter()
        .enumerate()
        .map(|(at, share)| {
            let width = WIDTH * f64::from(share.share_e6) / 1e6;
            let machine = hex::encode(&share.machine);
            let title = format!("{}: {}", units::short(&machine), units::percent_e6(share.share_e6));
            let part = html(
                "<rect class=\"part-{}\" x=\"{}\" y=\"0\" width=\"{}\" height=\"{}\"><title>{}</title></rect>",
                &[&(at % COLOURS), &coordinate(from), &coordinate((width - 2.0).max(0.0)), &coordinate(BAR), &title],
            );
            from += width;
            part
        })
        .collect();
    let all: Vec<String> = shares.iter().map(|share| units::percent_e6(share.share_e6)).collect();
    html(
        "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"Shares of the tasks: {}\">{}</svg>",
        &[&coordinate(WIDTH), &coordinate(BAR), &all.join(", "), &parts],
    )
}

/// A line across the drawing, labelled in per cent unless `share` is negative.
fn line(y: f64, class: &'static str, share: f64) -> Html {
    let label = if share < 0.0 { String::new() } else { format!("{:.0} %", share * 100.0) };
    html(
        "<line class=\"{}\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
        &[
            &class,
            &coordinate(LEFT),
            &coordinate(y),
            &coordinate(WIDTH - MARGIN),
            &coordinate(y),
            &coordinate(LEFT - 6.0),
            &coordinate(y + 4.0),
            &label,
        ],
    )
}

/// At most about `most` of `count` positions, evenly spread; the last is always among them.
fn every(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let step = count.div_ceil(most).max(1);
    (0..count).rev().step_by(step)
}

fn coordinate(value: f64) -> String {
    format!("{value:.1}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(round: u32, watch_correct: u32, watch_total: u32) -> v1::RoundFigure {
        v1::RoundFigure { round, watch_correct, watch_total, ..Default::default() }
    }

    #[test]
    fn the_curve_spans_the_drawing_and_more_is_higher() {
        let text = accuracy(&[round(0, 0, 4), round(1, 2, 4), round(2, 4, 4)], 930_000).into_string();
        assert!(text.contains("points=\"44.0,214.0 377.0,112.0 710.0,10.0\""), "{text}");
        assert!(text.contains("100.0 % after round 2") && text.contains("class=\"target\""), "{text}");
    }

    #[test]
    fn figures_that_make_no_sense_draw_nothing_outside() {
        assert!(accuracy(&[round(0, 0, 0)], 0).into_string().contains("begins with the first round"));
        let text = accuracy(&[round(7, 9, 4)], u32::MAX).into_string();
        assert!(text.contains("points=\"44.0,10.0\"") && !text.contains("NaN"), "{text}");
    }

    #[test]
    fn long_trainings_keep_few_marks_and_the_last_one() {
        let rounds: Vec<_> = (0..=1_000).map(|n| round(n, 1, 2)).collect();
        let text = accuracy(&rounds, 0).into_string();
        assert!(text.matches("<circle").count() <= MARKS_MAX, "{}", text.matches("<circle").count());
        assert!(text.contains(">1000</text>"), "{text}");
    }

    #[test]
    fn shares_fill_the_bar() {
        let share = |share_e6| v1::Share { share_e6, ..Default::default() };
        let text = shares(&[share(500_000), share(250_000), share(250_000)]).into_string();
        assert!(text.contains("x=\"360.0\"") && text.contains("x=\"540.0\""), "{text}");
        assert!(shares(&[share(0)]).is_empty());
    }
}
