//! The repository's own rules: dependency edges, licences, and that the documentation names files that exist.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Lines of a source file above which it no longer fits the head.
const LINES_MAX: usize = 600;

/// Licences that a dependency may be under (each term of its expression's cheapest branch must be here).
const LICENCES: [&str; 14] = [
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "Unlicense",
    "CC0-1.0",
    "Unicode-3.0",
    "Unicode-DFS-2016",
    "0BSD",
    "BSL-1.0",
    "MIT-0",
    "Apache-2.0 WITH LLVM-exception",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The machine's own target: packages of other systems need not be there.
fn host() -> String {
    let output = Command::new("rustc").arg("-vV").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| line.strip_prefix("host: ")).unwrap().to_owned()
}

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", &host()])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Package name -> names of everything it depends on at run time, however far.
fn closure(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let name = |id: &str| {
        let packages = metadata["packages"].as_array().unwrap();
        packages.iter().find(|package| package["id"] == id).unwrap()["name"].as_str().unwrap().to_owned()
    };
    let mut direct: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for node in metadata["resolve"]["nodes"].as_array().unwrap() {
        let normal = node["deps"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|dep| dep["dep_kinds"].as_array().unwrap().iter().any(|kind| kind["kind"].is_null()));
        let deps = normal.map(|dep| dep["pkg"].as_str().unwrap().to_owned()).collect();
        direct.insert(node["id"].as_str().unwrap().to_owned(), deps);
    }
    let members = metadata["workspace_members"].as_array().unwrap();
    let mut all = BTreeMap::new();
    for member in members {
        let id = member.as_str().unwrap();
        let (mut seen, mut todo) = (BTreeSet::new(), vec![id.to_owned()]);
        while let Some(next) = todo.pop() {
            for dep in &direct[&next] {
                if seen.insert(dep.clone()) {
                    todo.push(dep.clone());
                }
            }
        }
        all.insert(name(id), seen.iter().map(|id| name(id)).collect());
    }
    all
}

fn sources() -> Vec<PathBuf> {
    let output = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(root())
        .output();
    let listed = output.unwrap().stdout;
    String::from_utf8(listed).unwrap().lines().map(|line| root().join(line)).filter(|path| path.exists()).collect()
}

#[test]
fn forbidden_edges_are_absent() {
    let edges = closure(&metadata());
    let forbidden: [(&str, &[&str]); 8] = [
        ("matrixai-protocol", &["tokio", "tonic", "matrixai-proto", "raft", "sled"]),
        ("matrixai-transport", &["matrixai-proto", "matrixai-protocol", "matrixai-state", "raft", "sled", "actix"]),
        // Cargo resolves the features of all members together, so the network stack that `proto` has behind a feature
        // shows here too; the state's own sources are checked below.
        (
            "matrixai-state",
            &[
                "matrixai-consensus",
                "matrixai-kernels",
                "matrixai-training",
                "matrixai-worker",
                "actix",
                "sled",
                "raft",
            ],
        ),
        ("matrixai-consensus", &["tokio", "tonic", "matrixai-proto", "matrixai-protocol", "matrixai-state", "actix"]),
        ("matrixai-kernels", &["tokio", "tonic", "matrixai-state", "matrixai-proto"]),
        ("matrixai-training", &["tokio", "tonic", "matrixai-state", "matrixai-proto"]),
        ("matrixai-worker", &["matrixai-state", "matrixai-consensus", "matrixai-coordinator", "raft"]),
        ("matrixai-coordinator", &["matrixai-worker", "matrixai-kernels", "matrixai-training"]),
    ];
    for (package, banned) in forbidden {
        for name in banned {
            assert!(!edges[package].contains(*name), "{package} must not depend on {name}");
        }
    }
    for (package, deps) in &edges {
        assert!(!deps.contains("matrixai-bench"), "{package} imports bench");
        assert!(!deps.contains("aws-lc-rs"), "{package} brings a second crypto library");
    }
}

#[test]
fn the_pure_packages_name_no_clock_file_or_thread() {
    let words = [
        "std::time",
        "std::fs",
        "std::net",
        "std::thread",
        "HashMap",
        "HashSet",
        "tokio",
        "tonic",
        "SystemTime",
        "Instant::now",
    ];
    for folder in ["coordinator/state/src", "proto/protocol/src"] {
        for path in sources().into_iter().filter(|path| path.starts_with(root().join(folder))) {
            let text = fs::read_to_string(&path).unwrap();
            let code: String =
                text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
            for word in words {
                assert!(!code.contains(word), "{} names {word}", path.display());
            }
        }
    }
}

#[test]
fn licences_are_free() {
    let metadata = metadata();
    for package in metadata["packages"].as_array().unwrap() {
        let name = package["name"].as_str().unwrap();
        let licence = package["license"].as_str().unwrap_or_else(|| panic!("{name} names no licence"));
        let free = licence.replace('/', " OR ").split(" OR ").any(|branch| {
            let branch = branch.replace(['(', ')'], "");
            branch.split(" AND ").all(|term| LICENCES.contains(&term.trim()))
        });
        assert!(free, "{name} is under {licence}");
    }
}

#[test]
fn every_source_says_why_it_exists_and_fits_the_head() {
    for path in sources().into_iter().filter(|path| path.extension().is_some_and(|end| end == "rs")) {
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{} has no //! line", path.display());
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
    }
}

/// Paths between backticks in the documents: with a slash or a known ending, and no blanks or patterns.
fn paths_named(text: &str) -> Vec<String> {
    let odd = text.split('`').skip(1).step_by(2);
    let path = |word: &&str| {
        let ends = [".rs", ".md", ".toml", ".proto", ".py", ".csv.gz", "/"];
        ends.iter().any(|end| word.ends_with(end))
            && word.contains('/')
            && !word.contains([' ', '*', '{', '<', '$', '='])
            && !word.starts_with(['/', '~'])
    };
    odd.filter(path).map(str::to_owned).collect()
}

#[test]
fn the_documents_name_what_exists() {
    for document in ["README.md", "docs/ARCHITECTURE.md", "docs/CHECKLISTS.md", "docs/STYLE.md", "CONTRIBUTING.md"] {
        let text = fs::read_to_string(root().join(document)).unwrap();
        for path in paths_named(&text) {
            assert!(root().join(&path).exists(), "{document} names {path}, which does not exist");
        }
    }
    let named = paths_named(&fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap());
    assert!(named.len() >= 20, "docs/ARCHITECTURE.md names only {} files", named.len());
}
