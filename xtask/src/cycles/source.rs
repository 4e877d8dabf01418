//! The modules of a crate, and what each of them names, read token by token: paths in macros count, words in comments do not.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use proc_macro2::{TokenStream, TokenTree};

/// A path from the crate's root on.
type Segments = Vec<String>;

/// How many names for one thing are followed.
const HOPS: u32 = 8;

/// A crate.
#[derive(Default)]
pub(super) struct Source(BTreeMap<Segments, Module>);

/// What a module has in it.
#[derive(Default)]
struct Module {
    /// All paths to something in the crate.
    uses: Vec<Segments>,
    /// Those of its `use` items, by which it has names for things elsewhere.
    imports: Vec<Segments>,
    /// The names of its own items.
    items: Vec<String>,
    /// Its modules that only tests have.
    tests: Vec<String>,
}

impl Source {
    /// The crate that a folder is of, and the folder's own path in it.
    pub(super) fn around(folder: &Path) -> Result<(Self, Segments)> {
        let root = folder
            .ancestors()
            .find(|folder| folder.file_name().is_some_and(|name| name == "src"))
            .with_context(|| format!("{} is in no crate's src", folder.display()))?;
        let mut source = Self::default();
        source.read(root, &[])?;
        let tests: Vec<Segments> = source
            .0
            .iter()
            .flat_map(|(path, module)| module.tests.iter().map(|name| child(path, name)))
            .collect();
        source
            .0
            .retain(|path, _| !tests.iter().any(|test| path.starts_with(test)));
        Ok((source, segments(folder.strip_prefix(root)?)))
    }

    /// Adds the files of a folder that has this path.
    fn read(&mut self, folder: &Path, path: &[String]) -> Result<()> {
        let shown = || folder.display().to_string();
        for entry in fs::read_dir(folder).with_context(shown)? {
            let file = entry.with_context(shown)?.path();
            let name = file.file_stem().unwrap_or_default().to_string_lossy();
            if file.is_dir() {
                self.read(&file, &child(path, &name))?;
            } else if file.extension().is_some_and(|ending| ending == "rs") {
                let path = match &*name {
                    "mod" | "lib" | "main" => path.to_vec(),
                    name => child(path, name),
                };
                let tokens: TokenStream = fs::read_to_string(&file)?
                    .parse()
                    .map_err(|error| anyhow!("{}: {error}", file.display()))?;
                let module = self.0.entry(path.clone()).or_default();
                module.scan(&tokens.into_iter().collect::<Vec<_>>(), &path, true);
            }
        }
        Ok(())
    }

    /// The paths of all modules.
    pub(super) fn modules(&self) -> impl Iterator<Item = &Segments> {
        self.0.keys()
    }

    /// Each module with each path in it.
    pub(super) fn uses(&self) -> impl Iterator<Item = (&Segments, &Segments)> {
        self.0
            .iter()
            .flat_map(|(path, module)| module.uses.iter().map(move |used| (path, used)))
    }

    /// The module that something is of, by whatever path.
    pub(super) fn owner(&self, path: &[String]) -> Segments {
        self.follow(path, HOPS)
    }

    fn follow(&self, path: &[String], hops: u32) -> Segments {
        let is_module = |depth: &usize| self.0.contains_key(&path[..*depth]);
        let depth = (0..=path.len()).take_while(is_module).last().unwrap_or(0);
        let own = path[..depth].to_vec();
        let (Some(name), Some(module)) = (path.get(depth), self.0.get(&own)) else {
            return own;
        };
        if hops == 0 || module.items.contains(name) {
            return own;
        }
        let import = module
            .imports
            .iter()
            .find(|import| match import.split_last() {
                Some((last, from)) if last == "*" => {
                    let from = self.0.get(from);
                    from.is_some_and(|from| from.items.contains(name))
                }
                last => last.is_some_and(|(last, _)| last == name),
            });
        import.map_or(own, |import| self.follow(import, hops - 1))
    }
}

impl Module {
    /// Notes what tokens name, in a module with this path; at the top its items, too.
    fn scan(&mut self, tokens: &[TokenTree], path: &[String], top: bool) {
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            let word = token.to_string();
            match (token, word.as_str()) {
                (TokenTree::Punct(_), "#") if is_test(tokens.get(at)) => {
                    let item = &tokens[at + 1..];
                    if let Some([module, name, end]) = item.first_chunk()
                        && (module.to_string(), end.to_string()) == ("mod".into(), ";".into())
                    {
                        self.tests.push(name.to_string());
                    }
                    at += 2 + item.iter().take_while(|token| !ends_item(token)).count();
                }
                (TokenTree::Group(group), _) => self.scan(&inside(group), path, false),
                (TokenTree::Ident(_), "use") => {
                    let mut found = Vec::new();
                    at += read_tree(&tokens[at..], &[], &mut found);
                    let found = found.iter().filter_map(|found| absolute(found, path));
                    self.imports.extend(found.clone());
                    self.uses.extend(found);
                }
                (TokenTree::Ident(_), "crate" | "super" | "self") => {
                    let mut found = Vec::new();
                    at += read_tree(&tokens[at - 1..], &[], &mut found) - 1;
                    self.uses
                        .extend(found.iter().filter_map(|found| absolute(found, path)));
                }
                (TokenTree::Ident(_), keyword) if top && names_item(keyword) => {
                    self.items.extend(tokens.get(at).map(ToString::to_string));
                    if let ("mod", Some(TokenTree::Group(group))) = (keyword, tokens.get(at + 1)) {
                        let name = tokens[at].to_string();
                        self.scan(&inside(group), &child(path, &name), false);
                        at += 2;
                    }
                }
                _ => {}
            }
        }
    }
}

/// Reads a path, or a tree of them as `use` has it, and gives the number of its tokens.
fn read_tree(tokens: &[TokenTree], before: &[String], found: &mut Vec<Segments>) -> usize {
    let mut path = before.to_vec();
    let mut at = 0;
    loop {
        match tokens.get(at) {
            Some(TokenTree::Group(group)) => {
                let inside = inside(group);
                for tree in inside.split(|token| token.to_string() == ",") {
                    if !tree.is_empty() {
                        read_tree(tree, &path, found);
                    }
                }
                return at + 1;
            }
            Some(token @ TokenTree::Ident(_)) => path.push(token.to_string()),
            Some(token) if token.to_string() == "*" => path.push("*".to_owned()),
            _ => break,
        }
        at += 1;
        let is_colon = |at: usize| tokens.get(at).is_some_and(|token| token.to_string() == ":");
        if !(is_colon(at) && is_colon(at + 1)) {
            break;
        }
        at += 2;
    }
    found.push(path);
    at
}

/// A path as it stands in a module, from the root on; none where nothing follows.
fn absolute(path: &[String], module: &[String]) -> Option<Segments> {
    let mut base = module.to_vec();
    let mut rest = path;
    while let [first, others @ ..] = rest {
        match first.as_str() {
            "crate" => base.clear(),
            "super" => drop(base.pop()),
            "self" => {}
            _ => break,
        }
        rest = others;
    }
    if let [before @ .., last] = rest
        && last == "self"
    {
        rest = before;
    }
    (!rest.is_empty()).then(|| [base, rest.to_vec()].concat())
}

/// Whether an attribute leaves its item to tests.
fn is_test(attribute: Option<&TokenTree>) -> bool {
    attribute.is_some_and(|attribute| {
        let words = attribute.to_string().replace(' ', "");
        words == "[cfg(test)]"
    })
}

/// Whether an item ends with this token.
fn ends_item(token: &TokenTree) -> bool {
    match token {
        TokenTree::Group(group) => group.delimiter() == proc_macro2::Delimiter::Brace,
        token => token.to_string() == ";",
    }
}

/// Whether a name follows the keyword.
fn names_item(keyword: &str) -> bool {
    matches!(
        keyword,
        "struct" | "enum" | "fn" | "const" | "static" | "type" | "trait" | "mod"
    )
}

fn inside(group: &proc_macro2::Group) -> Vec<TokenTree> {
    group.stream().into_iter().collect()
}

fn child(path: &[String], name: &str) -> Segments {
    [path, &[name.to_owned()]].concat()
}

fn segments(path: &Path) -> Segments {
    path.iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect()
}
