//! Holds the JSON against `SCHEMA.md`: whatever a line has must be described there, at every depth.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Format;
use super::samples::{self, PLAIN, story, whole_end};
use crate::trace::event::{EventType, FaultKind, ObjectKind, Start};

const SCHEMA: &str = include_str!("SCHEMA.md");

/// The fields of each section, by the end of the section's link.
type Sections = BTreeMap<String, BTreeMap<&'static str, Field>>;

struct Field {
    kind: &'static str,
    always: bool,
    /// What its objects are made of, if the type names a section.
    of: Option<Nested>,
}

enum Nested {
    /// The object itself, or each in an array.
    Object(&'static str),
    /// Each value of the object.
    Values(&'static str),
}

/// Every row of every table of fields.
fn sections() -> Sections {
    let mut sections = Sections::new();
    let mut section = String::new();
    for line in SCHEMA.lines() {
        if line.starts_with("##") {
            let title = line.replace(['#', '`'], "");
            section = title.trim().to_lowercase().replace(' ', "-");
        } else if let ["", name, kind, when, _, ""] = *line.split('|').collect::<Vec<_>>()
            && let Some(name) = name.trim().strip_prefix('`')
        {
            let link = kind
                .split_once("(#")
                .and_then(|(_, link)| link.split_once(')'));
            let link = link.map(|(link, _)| link);
            let values = kind.trim().starts_with("object of");
            let of = link.map(if values {
                Nested::Values
            } else {
                Nested::Object
            });
            let field = Field {
                kind: kind.trim(),
                always: when.trim().is_empty(),
                of,
            };
            let fields = sections.entry(section.clone()).or_default();
            let before = fields.insert(name.trim_end_matches('`'), field);
            assert!(before.is_none(), "{name} is described twice in {section}");
        }
    }
    sections
}

fn lines() -> Vec<Value> {
    let mut events = story();
    events.extend(
        samples::experiment()
            .into_iter()
            .map(|what| samples::event(999_999, 1234, what)),
    );
    let text = samples::written(Format::Json, PLAIN, &events, &whole_end());
    text.lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect()
}

/// The first line of a trace of what ran before.
fn attached() -> Value {
    let start = Start {
        command: Vec::new(),
        attached: vec![1234, 1240],
        ..samples::start()
    };
    let page = samples::Page::default();
    let mut sink = super::sink(Format::Json, page.writer(), PLAIN);
    sink.start(&start)
        .and_then(|()| sink.flush(0))
        .expect("a writer that doesn't fail");
    serde_json::from_str(&page.text()).expect("JSON")
}

/// Fields that have been met, by their sections.
#[derive(Default)]
struct Met(BTreeSet<(String, &'static str)>);

impl Met {
    /// Checks an object against some sections together.
    fn check(&mut self, object: &Value, names: &[&str], sections: &Sections) {
        let fields = object.as_object().expect("an object");
        for (name, value) in fields {
            let described = |section: &&&str| sections[**section].contains_key(&**name);
            let Some(section) = names.iter().find(described) else {
                panic!("{name} isn't described in {names:?}: {object}");
            };
            let (name, field) = sections[*section]
                .get_key_value(&**name)
                .expect("it is there");
            self.0.insert(((*section).to_owned(), name));
            match &field.of {
                _ if value.is_null() => {}
                Some(Nested::Object(section)) => match value.as_array() {
                    Some(values) => self.check_all(values, section, sections),
                    None => self.check(value, &[section], sections),
                },
                Some(Nested::Values(section)) => {
                    let values = value.as_object().expect("an object").values();
                    self.check_all(values, section, sections);
                }
                None => assert!(is_plain(value, field.kind), "{name}: {object}"),
            }
        }
        for (name, field) in names.iter().flat_map(|section| &sections[*section]) {
            assert!(
                !field.always || fields.contains_key(*name),
                "{name} is missing: {object}"
            );
        }
    }

    fn check_all<'a>(
        &mut self,
        objects: impl IntoIterator<Item = &'a Value>,
        section: &str,
        sections: &Sections,
    ) {
        for object in objects {
            self.check(object, &[section], sections);
        }
    }
}

/// Whether a value has nothing in it that needs a section of its own.
fn is_plain(value: &Value, kind: &str) -> bool {
    match value {
        Value::Object(fields) => {
            let nested = |value: &Value| value.is_object() || value.is_array();
            kind.starts_with("object of") && !fields.values().any(nested)
        }
        Value::Array(values) => !values
            .iter()
            .any(|value| value.is_object() || value.is_array()),
        _ => true,
    }
}

#[test]
fn every_line_is_an_object_that_the_schema_describes() {
    let (lines, sections) = (lines(), sections());
    let types: Vec<&str> = lines
        .iter()
        .map(|line| line["type"].as_str().expect("a name"))
        .collect();
    assert_eq!(
        (types.first(), types.last()),
        (Some(&"start"), Some(&"end"))
    );
    for name in EventType::ALL.iter().map(|event| event.name()) {
        assert!(types.contains(&name), "no sample of {name}");
    }
    let mut met = Met::default();
    for (line, name) in lines.iter().zip(types) {
        match name {
            "start" | "end" => met.check(line, &[name], &sections),
            _ => met.check(line, &["every-line-but-start-and-end", name], &sections),
        }
    }
    met.check(&attached(), &["start"], &sections);
    // Of what is described and in no sample nobody knows whether it is so.
    for (section, fields) in &sections {
        for name in fields.keys() {
            assert!(
                met.0.contains(&(section.clone(), name)),
                "no sample of {name} in {section}"
            );
        }
    }
}

#[test]
fn every_name_of_a_kind_is_described() {
    let described = |name: &str| SCHEMA.contains(&format!("`{name}`"));
    for name in FaultKind::ALL.map(FaultKind::name) {
        assert!(described(name), "{name}");
    }
    for name in ObjectKind::ALL.map(ObjectKind::name) {
        assert!(described(name), "{name}");
    }
    for line in lines() {
        for field in ["cause", "region", "by", "first", "let_go", "call"] {
            // A fault may be in any system call.
            if field == "call" && line["type"] == "fault" {
                continue;
            }
            let name = line[field].as_str();
            assert!(name.is_none_or(described), "{field}: {line}");
        }
    }
}
