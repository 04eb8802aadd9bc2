//! The list of refusals that people read is the one that replicas apply.

use matrixai_state::Refusal;

#[test]
fn the_documentation_lists_every_refusal() {
    let text = include_str!("../../../docs/REFUSALS.md");
    let mut all = Refusal::ALL.to_vec();
    all.sort_unstable();
    let rows: Vec<String> =
        all.into_iter().map(|(number, name, sentence)| format!("| {number} | `{name}` | {sentence} |")).collect();
    for row in &rows {
        assert!(text.contains(row.as_str()), "docs/REFUSALS.md lacks this row:\n{row}");
    }
    let listed = text.lines().filter(|line| line.starts_with("| ") && line.contains('`')).count();
    assert_eq!(listed, rows.len(), "docs/REFUSALS.md lists a refusal that no longer exists");
}
