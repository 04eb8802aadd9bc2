//! Jobs: the list, and one job from submission to settlement, with everything that its receipt rests on.

mod chart;

use super::{
    super::{
        html::{Html, html},
        units,
    },
    badge, card, facts, figure, heading, job_link, moment, short_id, table, whole_id,
};
use matrixai_proto::v1;

/// The list, newest first.
pub(in crate::web) fn jobs(jobs: &[v1::Job]) -> Html {
    let rows: Html = jobs
        .iter()
        .map(|job| {
            let escrow = job.escrow.clone().unwrap_or_default();
            html(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>\
                 <td class=\"num\">{}</td><td>{}</td></tr>",
                &[
                    &job_link(&job.id, name(job)),
                    &badge(&job.state),
                    &format!("{} of {}", job.rounds_done, spec(job).rounds),
                    &accuracy(job),
                    &units::mai(&escrow.held),
                    &units::mai(&escrow.paid),
                    &moment(job.submitted_ms),
                ],
            )
        })
        .collect();
    let columns = [
        ("Job", false),
        ("State", false),
        ("Rounds", false),
        ("Accuracy", true),
        ("Held", true),
        ("Paid", true),
        ("Submitted (UTC)", false),
    ];
    let all = table("Jobs, newest first", &columns, &rows, "No job has been submitted yet.");
    html(
        "{}{}",
        &[
            &heading(
                "Jobs",
                "A job's whole price is held before it starts. It is paid for what was verified, and the rest goes back.",
            ),
            &card("jobs", "All jobs", &all),
        ],
    )
}

/// One job.
pub(in crate::web) fn job(job: &v1::Job) -> Html {
    let spec = spec(job);
    let reason = if job.reason.is_empty() { Html::default() } else { html("<p>{}</p>", &[&job.reason]) };
    let head = html(
        "<div data-part=\"head\"><h1>{}</h1><p class=\"lead\">{} {}</p>{}</div>",
        &[&name(job), &badge(&job.state), &whole_id(&job.id), &reason],
    );
    let escrow = job.escrow.clone().unwrap_or_default();
    let under = format!("{} in fees, {} refunded", units::mai(&escrow.fees), units::mai(&escrow.refunded));
    let figures: Html = [
        figure("Validation accuracy", &accuracy(job), &format!("wanted {}", units::percent_e6(spec.target_e6))),
        figure("Rounds", &format!("{} of {}", job.rounds_done, spec.rounds), &tasks(job, &spec)),
        figure("Held", &units::mai(&escrow.held), &"set aside for this job"),
        figure("Paid", &units::mai(&escrow.paid), &under),
    ]
    .into_iter()
    .collect();
    html(
        "{}{}<div class=\"grid\" data-part=\"figures\">{}</div>{}{}{}<div class=\"halves\">{}{}</div>{}",
        &[
            &head,
            &progress(job, &spec),
            &figures,
            &card("chart", "Accuracy per round", &chart::accuracy(&job.rounds, spec.target_e6)),
            &card("shares", "Who does what, and why", &shares(job)),
            &card("proof", "Proof", &proof(job)),
            &card("terms", "What was ordered", &terms(job, &spec)),
            &card("times", "Life of the job", &times(job)),
            &card("rounds", "Rounds and their checkpoints", &rounds(job)),
        ],
    )
}

fn spec(job: &v1::Job) -> v1::TrainingSpec {
    job.spec.clone().unwrap_or_default()
}

fn name(job: &v1::Job) -> &str {
    if job.name.trim().is_empty() { "unnamed job" } else { &job.name }
}

/// First and last accuracy on the validation rows; before verification, on the watch rows of the newest round.
fn accuracy(job: &v1::Job) -> String {
    let measured = job.accuracy.unwrap_or_default();
    if measured.total > 0 {
        let of = |correct: u32| units::percent(correct.into(), measured.total.into());
        return format!("{} → {}", of(measured.first_correct), of(measured.last_correct));
    }
    match job.rounds.last() {
        Some(round) if round.watch_total > 0 => {
            format!("≈ {}", units::percent(round.watch_correct.into(), round.watch_total.into()))
        }
        _ => "–".to_owned(),
    }
}

fn tasks(job: &v1::Job, spec: &v1::TrainingSpec) -> String {
    if job.state == "training" {
        format!("{} of {} tasks of the open round", job.tasks_done, spec.virtual_workers)
    } else {
        format!("{} tasks each", spec.virtual_workers)
    }
}

/// Always a part, empty once the job is closed: what is exchanged live must not come and go.
fn progress(job: &v1::Job, spec: &v1::TrainingSpec) -> Html {
    let each = u64::from(spec.virtual_workers);
    let done = u64::from(job.rounds_done) * each + u64::from(job.tasks_done);
    let all = (u64::from(spec.rounds) * each).max(1);
    let bar = html(
        "<section class=\"card\"><h2 id=\"progress\">Progress</h2>\
         <progress aria-labelledby=\"progress\" max=\"{}\" value=\"{}\">{}</progress>\
         <p class=\"quiet small\">{} of {} tasks computed</p></section>",
        &[&all, &done, &units::percent(done, all), &done, &all],
    );
    html("<div data-part=\"progress\">{}</div>", &[&Some(bar).filter(|_| job.closed_ms == 0)])
}

fn shares(job: &v1::Job) -> Html {
    let rows: Html = job
        .shares
        .iter()
        .map(|share| {
            let rounds: Vec<String> = share.tasks_per_round.iter().map(u32::to_string).collect();
            html(
                "<tr><th scope=\"row\">{}</th><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>\
                 <td class=\"num\">{}</td><td class=\"num\">{} ({})</td><td>{}</td><td class=\"num\">{} s</td>\
                 <td class=\"num\">{} / h</td><td class=\"num\">{}</td><td class=\"num\">{}</td></tr>",
                &[
                    &short_id(&share.machine),
                    &badge(&share.standing),
                    &units::speed(share.speed_matched),
                    &units::speed(share.speed),
                    &units::ut(&share.micro_ut),
                    &share.tasks,
                    &units::percent_e6(share.share_e6),
                    &rounds.join(", "),
                    &format!("{:.2}", share.cpu_us as f64 / 1e6),
                    &units::mai(&share.price_per_hour),
                    &units::duration(share.billed_ms),
                    &units::mai(&share.paid),
                ],
            )
        })
        .collect();
    let columns = [
        ("Machine", false),
        ("Standing", false),
        ("Speed at match", true),
        ("Speed now", true),
        ("Power", true),
        ("Tasks (share)", true),
        ("Tasks per round", false),
        ("CPU time (claimed)", true),
        ("Price", true),
        ("Billed", true),
        ("Paid", true),
    ];
    let table =
        table("Tasks are dealt out by measured fgemm speed", &columns, &rows, "No machine has been matched yet.");
    html("{}{}", &[&chart::shares(&job.shares), &table])
}

fn proof(job: &v1::Job) -> Html {
    let proof = job.proof.clone().unwrap_or_default();
    let verdict = if proof.verdict.is_empty() { html("none yet", &[]) } else { badge(&proof.verdict) };
    let rows: Html = proof
        .replayed
        .iter()
        .map(|replay| {
            html(
                "<tr><th scope=\"row\">{}</th><td class=\"num\">{}</td><td class=\"num\">{}</td><td>{}</td><td>{}</td>\
                 <td>{}</td><td>{}</td></tr>",
                &[
                    &replay.segment,
                    &replay.round,
                    &replay.virtual_worker,
                    &badge(&replay.state),
                    &short_id(&replay.prover),
                    &short_id(&replay.verifier),
                    &short_id(&replay.trace_root),
                ],
            )
        })
        .collect();
    let columns = [
        ("Segment", false),
        ("Round", true),
        ("Virtual worker", true),
        ("State", false),
        ("Computed by", false),
        ("Replayed by", false),
        ("Trace root", false),
    ];
    let replays = table(
        "Segments computed again, bit for bit, by another machine",
        &columns,
        &rows,
        "Segments are drawn for replay when the last round is committed.",
    );
    let facts = facts(&[
        ("Verdict", &verdict),
        ("Root of the checkpoints", &whole_id(&proof.root)),
        ("Beacon of the challenge", &whole_id(&proof.beacon)),
        ("Model", &whole_id(&job.model)),
    ]);
    html("{}{}", &[&facts, &replays])
}

fn terms(job: &v1::Job, spec: &v1::TrainingSpec) -> Html {
    let order = job.order.clone().unwrap_or_default();
    let layers: Vec<String> = std::iter::once(spec.features)
        .chain(spec.hidden.iter().copied())
        .chain([spec.classes])
        .map(|width| width.to_string())
        .collect();
    let e6 = |millionths: u32| format!("{}", f64::from(millionths) / 1e6);
    facts(&[
        ("Machines", &order.machines),
        ("Price limit", &format!("{} / h each", units::mai(&order.price_limit))),
        ("Total limit", &units::mai(&order.total_limit)),
        ("Longest rent", &units::duration(order.duration_s.saturating_mul(1_000))),
        ("Machines must be", &if order.query.is_empty() { "any" } else { order.query.as_str() }),
        ("Data set", &whole_id(&spec.dataset)),
        ("Size of the data set", &units::bytes(spec.dataset_bytes)),
        ("Layers", &layers.join(" → ")),
        (
            "Work",
            &format!(
                "{} rounds × {} virtual workers × {} steps of {} rows",
                spec.rounds, spec.virtual_workers, spec.steps_per_round, spec.batch
            ),
        ),
        (
            "Inner steps",
            &format!(
                "rate {}, momentum {}, decay {}",
                e6(spec.learning_rate_e6),
                e6(spec.momentum_e6),
                e6(spec.weight_decay_e6)
            ),
        ),
        ("Outer steps", &format!("rate {}, momentum {}", e6(spec.outer_rate_e6), e6(spec.outer_momentum_e6))),
    ])
}

fn times(job: &v1::Job) -> Html {
    facts(&[
        ("Owner", &whole_id(&job.owner)),
        ("Submitted (UTC)", &moment(job.submitted_ms)),
        ("Matched (UTC)", &moment(job.matched_ms)),
        ("Closed (UTC)", &moment(job.closed_ms)),
        ("Beacon", &whole_id(&job.beacon)),
        ("Drilling of its machines", &format!("{} units, {} accepted", job.drilling_units, job.drilling_accepted)),
    ])
}

fn rounds(job: &v1::Job) -> Html {
    let rows: Html = job
        .rounds
        .iter()
        .map(|round| {
            html(
                "<tr><th scope=\"row\">{}</th><td class=\"num\">{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
                &[
                    &round.round,
                    &units::percent(round.watch_correct.into(), round.watch_total.into()),
                    &short_id(&round.weights),
                    &short_id(&round.leaf),
                    &moment(round.closed_ms),
                ],
            )
        })
        .collect();
    let columns =
        [("Round", false), ("Watch rows right", true), ("Weights", false), ("Leaf", false), ("Closed (UTC)", false)];
    let table = table("One checkpoint a round", &columns, &rows, "No round is closed yet.");
    html("<details><summary>{} rounds</summary>{}</details>", &[&job.rounds.len(), &table])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "</title><script>alert(1)</script>\" onmouseover=\"x";

    fn hostile() -> v1::Job {
        v1::Job {
            id: vec![0xab; 20],
            name: HOSTILE.to_owned(),
            state: "training".to_owned(),
            reason: HOSTILE.to_owned(),
            spec: Some(v1::TrainingSpec { rounds: 3, virtual_workers: 8, target_e6: 930_000, ..Default::default() }),
            rounds_done: 1,
            tasks_done: 4,
            rounds: vec![
                v1::RoundFigure { round: 0, watch_correct: 10, watch_total: 100, ..Default::default() },
                v1::RoundFigure { round: 1, watch_correct: 80, watch_total: 100, ..Default::default() },
            ],
            shares: vec![v1::Share {
                standing: HOSTILE.to_owned(),
                share_e6: 1_000_000,
                tasks: 4,
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    #[test]
    fn hostile_names_are_text() {
        for shown in [job(&hostile()), jobs(&[hostile()])] {
            let text = shown.into_string();
            assert!(!text.contains("<script"), "{text}");
            assert!(!text.contains("\" onmouseover"), "{text}");
            assert!(text.contains("&lt;script&gt;alert(1)"), "{text}");
        }
    }

    #[test]
    fn progress_counts_tasks_of_all_rounds() {
        let text = job(&hostile()).into_string();
        assert!(text.contains("max=\"24\" value=\"12\""), "{text}");
        assert!(text.contains("≈ 80.0 %"), "{text}");
        assert!(text.contains("4 of 8 tasks of the open round"), "{text}");
    }

    #[test]
    fn a_job_of_which_nothing_is_known_is_shown_too() {
        let text = job(&v1::Job::default()).into_string();
        assert!(text.contains("unnamed job") && text.contains("No machine has been matched yet."), "{text}");
    }

    #[test]
    fn the_paid_figure_replaces_the_progress_figure() {
        let accuracy = Some(v1::Accuracy { first_correct: 36, last_correct: 340, total: 359 });
        let settled = v1::Job { accuracy, state: "settled".to_owned(), closed_ms: 5, ..hostile() };
        let text = job(&settled).into_string();
        assert!(text.contains("10.0 % → 94.7 %"), "{text}");
        assert!(!text.contains("<progress"), "{text}");
    }
}
