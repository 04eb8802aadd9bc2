//! Reading and writing queries, and their logic.
#![allow(clippy::unwrap_used, clippy::arithmetic_side_effects)]

use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Query {
    Query::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn number(text: &str) -> Number {
    let query = parse(&format!("cores >= {text}"));
    let Condition::Compare(compare) = query.condition() else { panic!("{text} is compared") };
    let Numeric::Literal(number) = compare.right else { panic!("{text} is a literal") };
    number
}

#[test]
fn one_condition_has_one_text() {
    for (written, canonical) in [
        ("", ""),
        ("true", ""),
        ("cores>=8", "cores >= 8"),
        ("8 <= cores", "cores >= 8"),
        ("40e9 < speed.fgemm", "speed.fgemm > 40000000000"),
        ("region in [\"europe\", \"asia\",\"asia\"]", "region in [\"asia\", \"europe\"]"),
        ("region in [\"asia\"]", "region == \"asia\""),
        ("!(region == \"asia\")", "region != \"asia\""),
        ("!(!(cores > 1))", "!(!(cores > 1))"),
        ("(cores > 1 && (ram > 2 && disk > 3))", "cores > 1 && ram > 2 && disk > 3"),
        ("cores > 1 || ram > 2 && disk > 3", "cores > 1 || (ram > 2 && disk > 3)"),
        ("price / speed.fgemm * 1e12 < 0.5", "((price / speed.fgemm) * 1000000000000) < 0.5"),
        ("ram - 512MiB > 98%", "(ram - 0.5) > 0.98"),
        ("-cores < - 3", "-cores < -3"),
        (
            "provenance(ram) == \"measured\" && defined( gpu_ram )",
            "provenance(ram) == \"measured\" && defined(gpu_ram)",
        ),
        ("cpu == \"a \\\"b\\\" \\\\ c\"", "cpu == \"a \\\"b\\\" \\\\ c\""),
        ("rent_max >= 2h", "rent_max >= 7200"),
    ] {
        let query = parse(written);
        assert_eq!(&**query.text(), canonical, "{written}");
        assert_eq!(parse(canonical), query, "{canonical}");
    }
}

#[test]
fn errors_name_the_column() {
    for (text, column, what) in [
        ("cores >=", 9, "found the end, expected an attribute"),
        ("cores >= 8 && speed", 15, "there is no attribute speed"),
        ("cores", 1, "this is a number, expected a condition"),
        ("region > \"asia\"", 10, "a text cannot be compared with a text by >"),
        ("cores == \"8\"", 10, "a number cannot be compared with a text"),
        ("1 < cores < 3", 1, "do not chain"),
        ("(cores > 1", 11, "found the end, expected `)`"),
        ("cores > 1 ram > 2", 11, "found ram, expected an operator or the end"),
        ("cores in [1, \"b\"]", 14, "this is a text, expected a number"),
        ("\"a\" in [\"a\"]", 1, "expected an attribute before `in`"),
        ("provenance(ram) == \"heard\"", 20, "\"heard\" is no provenance"),
        ("ram > 8GB", 7, "\"GB\" is no unit"),
        ("ram > 0.1234567891", 7, "at most nine decimals"),
        ("ram > 1e19", 7, "out of range"),
        ("cores & 3", 7, "'&' means nothing here"),
        ("cpu == \"x", 8, "no closing quote"),
        ("é", 1, "means nothing here"),
        ("region == \"é\" && cores", 18, "this is a number"),
    ] {
        let error = Query::parse(text).unwrap_err();
        assert_eq!(error.column, column, "{text}: {error}");
        assert!(error.what.contains(what), "{text}: {error}");
    }
}

#[test]
fn size_and_depth_are_bounded() {
    let nested = |levels: usize| format!("{}cores > 1{}", "!(".repeat(levels), ")".repeat(levels));
    assert!(Query::parse(&nested(QUERY_DEPTH_MAX - 2)).is_ok());
    assert!(Query::parse(&nested(QUERY_DEPTH_MAX)).is_err());
    assert!(Query::parse(&nested(200)).is_err());
    assert!(Query::parse(&"(".repeat(QUERY_BYTES_MAX)).is_err());
    assert!(Query::parse(&format!("cores > {}", " ".repeat(QUERY_BYTES_MAX))).is_err());
    assert!(Query::parse(&vec!["ram > 1T"; 80].join(" && ")).is_err(), "its canonical text is too long");
    assert!(Query::parse(&format!("cpu == \"{}\"", "x".repeat(TEXT_BYTES_MAX + 1))).is_err());
    assert!(Query::parse(&format!("price{} > 0", " + 1".repeat(40))).is_err());
}

#[test]
fn numbers_are_exact_or_refused() {
    assert_eq!(number("0.1").plus(number("0.2")), Some(number("0.3")));
    assert_eq!(number("40e9"), Number::whole(40_000_000_000));
    assert_eq!(number("1.5e-3"), Number::parts(1_500_000));
    assert_eq!(number("40G"), number("40e9"));
    assert_eq!(number("2TiB"), Number::whole(2_048));
    assert_eq!(number("30min"), Number::whole(1_800));
    assert_eq!(Number::whole(1).over(Number::ZERO), None);
    assert_eq!(Number::parts(i128::MAX).times(Number::whole(2)), None);
    assert_eq!(Number::ratio(1, 3), Some(Number::parts(333_333_333)));
    assert_eq!(Number::parts(-1_500_000_000).to_string(), "-1.5");
}

/// Cores and region are known, the rest is not.
fn machine() -> Attributes {
    let mut attributes = Attributes::default();
    attributes.set_number(NumberAttribute::Cores, Number::whole(8), Provenance::Claimed);
    attributes.set_text(TextAttribute::Region, "asia".into(), Provenance::Claimed);
    attributes
}

#[test]
fn what_is_undefined_never_matches() {
    for (text, wanted) in [
        ("cores >= 8", Truth::True),
        ("cores > 8", Truth::False),
        ("ram > 1", Truth::Undefined),
        ("!(ram > 1)", Truth::Undefined),
        ("ram > 1 || cores == 8", Truth::True),
        ("ram > 1 && cores == 9", Truth::False),
        ("ram > 1 && cores == 8", Truth::Undefined),
        ("ram != 3", Truth::Undefined),
        ("defined(ram)", Truth::False),
        ("!defined(ram) && region in [\"asia\", \"europe\"]", Truth::True),
        ("region != \"asia\"", Truth::False),
        ("provenance(cores) == \"claimed\"", Truth::True),
        ("provenance(cores) != \"claimed\"", Truth::False),
        ("provenance(ram) != \"claimed\"", Truth::Undefined),
        ("cores / 0 > 1", Truth::Undefined),
        ("cores * 2 - 1 == 15", Truth::True),
        ("true", Truth::True),
        ("false || ram > 1", Truth::Undefined),
    ] {
        assert_eq!(parse(text).condition().truth(&machine()), wanted, "{text}");
    }
}

/// A condition over attributes of which some are undefined, as text.
fn conditions() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        (0u8..12).prop_map(|n| format!("cores >= {n}")),
        (0u8..12).prop_map(|n| format!("{n} < ram")),
        (0u8..12, 1u8..4).prop_map(|(n, m)| format!("cores * {m} - disk / {n} != 2.5")),
        prop::sample::select(vec!["asia", "europe"]).prop_map(|name| format!("region == \"{name}\"")),
        Just("cores in [1, 8, 3]".to_owned()),
        Just("defined(ram)".to_owned()),
        Just("provenance(region) != \"measured\"".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| format!("!({one})")),
            prop::collection::vec(inner.clone(), 2..4).prop_map(|all| format!("({})", all.join(" && "))),
            prop::collection::vec(inner, 2..4).prop_map(|all| format!("({})", all.join(" || "))),
        ]
    })
}

/// Kleene's tables by number: false is 0, undefined 1, true 2.
const fn rank(truth: Truth) -> u8 {
    match truth {
        Truth::False => 0,
        Truth::Undefined => 1,
        Truth::True => 2,
    }
}

proptest! {
    #[test]
    fn the_canonical_text_reads_as_the_same_query(text in conditions()) {
        let query = parse(&text);
        let again = parse(query.text());
        prop_assert_eq!(&again, &query);
        prop_assert_eq!(again.text(), query.text());
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "[ -~é]{0,80}") {
        if let Ok(query) = Query::parse(&text) {
            prop_assert_eq!(&parse(query.text()), &query);
        }
    }

    /// Words that come close to queries.
    #[test]
    fn nothing_close_to_a_query_makes_it_panic(words in prop::collection::vec(
        prop::sample::select(vec![
            "cores", "region", ">=", "==", "!", "(", ")", "&&", "||", "in", "[", "]", ",", "1e9", "0.5", "-", "/", "\"asia\"",
            "defined", "provenance", "true", "512MiB", "speed.fgemm", "9e", "1.",
        ]), 0..24)) {
        if let Ok(query) = Query::parse(&words.join(" ")) {
            prop_assert_eq!(&parse(query.text()), &query);
        }
    }

    #[test]
    fn the_logic_is_kleenes(left in conditions(), right in conditions()) {
        let truth = |text: String| rank(parse(&text).condition().truth(&machine()));
        let (a, b) = (truth(left.clone()), truth(right.clone()));
        prop_assert_eq!(truth(format!("({left}) && ({right})")), a.min(b));
        prop_assert_eq!(truth(format!("({left}) || ({right})")), a.max(b));
        prop_assert_eq!(truth(format!("!({left})")), 2 - a);
        prop_assert_eq!(truth(format!("!(({left}) && ({right}))")), truth(format!("!({left}) || !({right})")));
    }
}
