//! Machines: what each claims to be and what drilling has measured of it, told apart.

use super::{
    super::{
        html::{Html, html},
        units,
    },
    badge, card, facts, heading, moment, short_id, table, whole_id,
};
use matrixai_proto::v1;
use std::collections::BTreeMap;

/// What machines with a session on this coordinator last said of the task they run: machine id, then the task's key and
/// how much of it is done, in millionths.
pub(in crate::web) type Running = BTreeMap<Vec<u8>, (String, u32)>;

/// The page's content.
pub(in crate::web) fn machines(machines: &[v1::Machine], running: &Running) -> Html {
    let rows: Html = machines
        .iter()
        .map(|machine| {
            let fgemm = machine.speeds.iter().find(|speed| speed.kernel == "fgemm");
            let speed = fgemm.map_or_else(|| "not measured".to_owned(), |speed| units::speed(speed.ops_per_s));
            let micro_ut = total(machine);
            html(
                "<tr><th scope=\"row\"><a href=\"#m{}\">{}</a></th><td>{}</td><td>{}</td><td class=\"num\">{}</td>\
                 <td class=\"num\">{}</td><td class=\"num\">{}</td></tr>",
                &[
                    &hex::encode(&machine.id),
                    &short_id(&machine.id),
                    &badge(&machine.status),
                    &model(machine),
                    &speed,
                    &units::ut(&micro_ut),
                    &machine.units_accepted,
                ],
            )
        })
        .collect();
    let columns = [
        ("Machine", false),
        ("Status", false),
        ("Processor (claimed)", false),
        ("fgemm speed (measured)", true),
        ("Power earned", true),
        ("Units accepted", true),
    ];
    let all = table("Machines", &columns, &rows, "No machine has been enrolled yet.");
    let each: Html = machines.iter().map(|machine| one(machine, running.get(&machine.id))).collect();
    html(
        "{}{}<div class=\"halves\" data-part=\"each\">{}</div>",
        &[
            &heading(
                "Machines",
                "Speed is the median over verified drilling units; power is what verified work has earned. What a \
                 machine says of itself is shown as claimed, and pays nothing.",
            ),
            &card("machines", "All machines", &all),
            &each,
        ],
    )
}

fn one(machine: &v1::Machine, running: Option<&(String, u32)>) -> Html {
    let claimed = machine.inventory.clone().unwrap_or_default();
    let gpus: Vec<String> =
        claimed.gpus.iter().map(|gpu| format!("{} ({})", gpu.model, units::bytes(gpu.ram_bytes))).collect();
    let gpus = if gpus.is_empty() { "none".to_owned() } else { gpus.join(", ") };
    let isa = if claimed.isa.is_empty() { "–".to_owned() } else { claimed.isa.join(", ") };
    let speeds: Html = machine
        .speeds
        .iter()
        .map(|speed| {
            let provisional = if speed.provisional { badge("provisional") } else { Html::default() };
            html(
                "<tr><th scope=\"row\">{} {}</th><td class=\"num\">{}</td><td class=\"num\">{} – {}</td>\
                 <td class=\"num\">{}</td></tr>",
                &[
                    &speed.kernel,
                    &provisional,
                    &units::speed(speed.ops_per_s),
                    &units::speed(speed.min_ops_per_s),
                    &units::speed(speed.max_ops_per_s),
                    &speed.samples,
                ],
            )
        })
        .collect();
    let columns = [("Kernel", false), ("Median", true), ("Slowest – fastest", true), ("Units", true)];
    let measured = table("Speed, measured by drilling", &columns, &speeds, "No verified drilling unit yet.");
    let claims = facts(&[
        ("Processor", &model(machine)),
        ("Instructions", &isa),
        ("Memory", &units::bytes(claimed.ram_bytes)),
        ("Disk", &units::bytes(claimed.disk_bytes)),
        ("Graphics", &gpus),
        ("System", &claimed.os),
        ("Region", &claimed.region),
    ]);
    let known = facts(&[
        ("Owner", &whole_id(&machine.owner)),
        ("Round trip", &round_trip(machine.round_trip_us)),
        ("Power by drilling", &units::ut(&machine.drilling_micro_ut)),
        ("Power by training", &units::ut(&machine.training_micro_ut)),
        ("Units", &format!("{} accepted, {} lost", machine.units_accepted, machine.units_lost)),
        ("Reliability", &reliability(machine.reliability)),
        ("Its owner's", &reliability(machine.owner_reliability)),
        ("Enrolled", &moment(machine.enrolled_ms)),
    ]);
    let now = running.map(|(task, done_e6)| {
        html(
            "<p class=\"small quiet\">{}</p>\
             <progress max=\"1000000\" value=\"{}\" aria-label=\"Task of this machine\">{}</progress>",
            &[task, done_e6, &units::percent_e6(*done_e6)],
        )
    });
    html(
        "<section class=\"card\" id=\"m{}\"><h2>{} {}</h2>{}{}<h3>Known to the ledger</h3>{}<h3>Claimed by the worker</h3>{}\
         </section>",
        &[&hex::encode(&machine.id), &whole_id(&machine.id), &badge(&machine.status), &now, &measured, &known, &claims],
    )
}

fn model(machine: &v1::Machine) -> String {
    let Some(claimed) = &machine.inventory else { return "–".to_owned() };
    let cores = if claimed.cores == 1 { "core" } else { "cores" };
    format!("{}, {} {cores}", claimed.cpu_model, claimed.cores)
}

/// Of what was completed and what failed by its side's fault; `--` while there is neither.
fn reliability(of: Option<v1::Reliability>) -> String {
    let v1::Reliability { completed, failed } = of.unwrap_or_default();
    match completed.saturating_add(failed) {
        0 => "--".to_owned(),
        all => format!("{:.2} % of {all}", completed as f64 * 100.0 / all as f64),
    }
}

fn round_trip(us: u64) -> String {
    if us == 0 { "–".to_owned() } else { format!("{:.1} ms", us as f64 / 1e3) }
}

fn total(machine: &v1::Machine) -> String {
    let parts = [&machine.drilling_micro_ut, &machine.training_micro_ut];
    parts.iter().filter_map(|part| part.parse::<u128>().ok()).sum::<u128>().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_told_from_measurements_and_are_only_text() {
        let machine = v1::Machine {
            id: vec![7; 20],
            status: "idle".to_owned(),
            inventory: Some(v1::Inventory {
                cpu_model: "<b>999 GHz</b>".to_owned(),
                cores: 1,
                os: "\"><script>".to_owned(),
                ..Default::default()
            }),
            speeds: vec![v1::Speed { kernel: "fgemm".to_owned(), ops_per_s: 2_500_000_000, ..Default::default() }],
            drilling_micro_ut: "1000000".to_owned(),
            training_micro_ut: "500000".to_owned(),
            ..Default::default()
        };
        let running = BTreeMap::from([(vec![7; 20], ("train/<i>".to_owned(), 250_000))]);
        let text = machines(&[machine], &running).into_string();
        assert!(text.contains("&lt;b&gt;999 GHz&lt;/b&gt;, 1 core") && !text.contains("<script>"), "{text}");
        assert!(text.contains("2.5 Gop/s") && text.contains("1.5 ut"), "{text}");
        assert!(text.contains("train/&lt;i&gt;") && text.contains("25.0 %"), "{text}");
    }

    #[test]
    fn without_machines_a_sentence_stands_in_the_table() {
        assert!(machines(&[], &BTreeMap::new()).into_string().contains("No machine has been enrolled yet."));
    }
}
