//! What imports what in `src/`: no circles, and the store's rooms in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::sources;

/// The store's rooms. Each imports only those that stand after it.
const ROOMS: [&str; 10] = [
    "access",
    "reconcile",
    "customers",
    "metering",
    "subscriptions",
    "catalog",
    "facts",
    "buyers",
    "base",
    "engine",
];

/// A module's path below the crate, as `["store", "metering", "freeze"]`.
type Module = Vec<String>;

/// The modules of `src/` and the paths that each of them names in `use` or in its code, its tests left out.
struct Tree(BTreeMap<Module, BTreeSet<Module>>);

impl Tree {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let rust =
            sources("src").into_iter().filter(|it| it.extension().is_some_and(|it| it == "rs"));
        let modules = rust.map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(&root).unwrap().with_extension("");
            let mut module: Module =
                path.iter().map(|part| part.to_str().unwrap().to_owned()).collect();
            if ["mod", "lib", "main"].contains(&module.last().unwrap().as_str()) {
                module.pop();
            }
            let named = paths(&text).into_iter().filter_map(|path| absolute(&path, &module));
            (module.clone(), named.collect())
        });
        Self(modules.collect())
    }

    /// The module that a path leads to: the longest one that it begins with.
    fn module_of(&self, path: &[String]) -> Option<&Module> {
        (1..=path.len())
            .rev()
            .find_map(|length| self.0.get_key_value(&path[..length]).map(|(module, _)| module))
    }

    /// Who imports whom, as parts of the tree at a depth below a folder: a file or a whole folder is one of them. What a
    /// folder's own `mod.rs` hands on ties nobody to it.
    fn siblings(&self, folder: &[String]) -> BTreeMap<String, BTreeSet<String>> {
        let part = |module: &Module| {
            (module.len() > folder.len() && module.starts_with(folder))
                .then(|| module[folder.len()].clone())
        };
        let mut imports: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (module, named) in &self.0 {
            let Some(from) = part(module) else { continue };
            let known = imports.entry(from.clone()).or_default();
            let others = named.iter().filter_map(|path| self.module_of(path)).filter_map(part);
            known.extend(others.filter(|other| *other != from));
        }
        imports
    }

    fn folders(&self) -> BTreeSet<Module> {
        self.0
            .keys()
            .flat_map(|module| (0..module.len()).map(|length| module[..length].to_vec()))
            .collect()
    }
}

/// The paths that a file's code names, without its tests.
fn paths(text: &str) -> Vec<String> {
    let code = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
    let lines: Vec<&str> = code.lines().map(|line| line.split("//").next().unwrap()).collect();
    let code = lines.join("\n");
    let mut found = Vec::new();
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in code.match_indices(root) {
            let before = code[..at].chars().next_back();
            if before.is_some_and(|it| it.is_alphanumeric() || it == '_' || it == ':') {
                continue;
            }
            expand(&code[at..], "", &mut found);
        }
    }
    found
}

/// Reads a path that may end in braces, `a::{b, c::{d, e}}`, as one path for each name. Returns what follows it.
fn expand<'a>(text: &'a str, prefix: &str, found: &mut Vec<String>) -> &'a str {
    let end = text
        .find(|it: char| !(it.is_alphanumeric() || it == '_' || it == ':'))
        .unwrap_or(text.len());
    let (path, rest) = text.split_at(end);
    let Some(mut inside) = rest.strip_prefix('{').filter(|_| path.ends_with("::")) else {
        found.push(format!("{prefix}{path}"));
        return rest;
    };
    let prefix = format!("{prefix}{path}");
    loop {
        inside = inside.trim_start();
        if let Some(rest) = inside.strip_prefix('}') {
            return rest;
        }
        let rest = expand(inside, &prefix, found);
        let rest = rest.find([',', '}']).map_or("", |at| &rest[at..]);
        inside = rest.strip_prefix(',').unwrap_or(rest);
        if inside.is_empty() {
            return inside;
        }
    }
}

fn absolute(path: &str, module: &Module) -> Option<Module> {
    let mut parts: Vec<String> = path.split("::").map(str::to_owned).collect();
    let mut base = match parts.first()?.as_str() {
        "crate" => Vec::new(),
        _ => module.clone(),
    };
    while ["crate", "self", "super"].contains(&parts.first()?.as_str()) {
        if parts.remove(0) == "super" {
            base.pop()?;
        }
    }
    base.extend(parts);
    Some(base)
}

/// Finds somebody who leads back to themselves, with the way there.
fn circle(imports: &BTreeMap<String, BTreeSet<String>>) -> Option<Vec<&str>> {
    fn walk<'a>(
        imports: &'a BTreeMap<String, BTreeSet<String>>,
        way: &mut Vec<&'a str>,
        done: &mut BTreeSet<&'a str>,
    ) -> Option<Vec<&'a str>> {
        let last = *way.last()?;
        for next in imports.get(last).into_iter().flatten() {
            if let Some(at) = way.iter().position(|it| it == next) {
                return Some(way[at..].to_vec());
            }
            if !done.contains(next.as_str()) {
                way.push(next);
                if let Some(found) = walk(imports, way, done) {
                    return Some(found);
                }
                way.pop();
            }
        }
        done.insert(last);
        None
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|start| walk(imports, &mut vec![start], &mut done))
}

#[test]
fn nothing_imports_in_a_circle() {
    let tree = Tree::read();
    let mut circles = Vec::new();
    for folder in tree.folders() {
        let imports = tree.siblings(&folder);
        let found = circle(&imports).map(|it| it.join(", "));
        circles.extend(found.map(|circle| format!("src/{}: {circle}", folder.join("/"))));
    }
    assert!(circles.is_empty(), "these import each other: {circles:#?}");
}

#[test]
fn the_rooms_of_the_store_stand_in_order() {
    let tree = Tree::read();
    let imports = tree.siblings(&["store".to_owned()]);
    let floor = |room: &str| ROOMS.iter().position(|it| *it == room);
    for (room, others) in &imports {
        // What stands beside the rooms is above all of them.
        let from = floor(room).unwrap_or(0);
        for other in others {
            let to = floor(other);
            let is_below = to.is_some_and(|to| to > from || floor(room).is_none());
            assert!(is_below, "store/{room} imports store/{other}");
        }
    }
    for path in sources("src/store") {
        let text = fs::read_to_string(&path).unwrap();
        for above in ["crate::intake", "crate::aws", "crate::http", "crate::reconcile"] {
            assert!(!text.contains(above), "{} imports {above}", path.display());
        }
    }
}

#[test]
fn a_circle_is_found() {
    let imports = |rows: &[(&str, &[&str])]| {
        let owned = |it: &&str| (*it).to_owned();
        rows.iter().map(|(from, to)| (owned(from), to.iter().map(owned).collect())).collect()
    };
    assert_eq!(circle(&imports(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])), None);
    assert_eq!(
        circle(&imports(&[("a", &["b"]), ("b", &["c"]), ("c", &["b"])])),
        Some(vec!["b", "c"])
    );
    let mut found = Vec::new();
    expand("crate::a::{b, c::{d, self}, e as f};", "", &mut found);
    assert_eq!(found, ["crate::a::b", "crate::a::c::d", "crate::a::c::self", "crate::a::e"]);
}
