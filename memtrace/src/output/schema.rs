//! Holds `SCHEMA.md` against the JSON Schema that follows from the types, and both against samples.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::samples::{self, story, whole_end};
use crate::trace::event::{Line, Start, json_schema};

const SCHEMA: &str = include_str!("SCHEMA.md");

/// The section of what every event has.
const EVENT: &str = "every line but start and end";

/// The one field that is no field of a type, but tells which it is.
const TYPE: &str = "`type`";

/// A section, and a field in it.
type FieldPath = (String, String);

/// Of each field its type, with `#` and the section where it has fields of its own, and whether it is always there.
type Fields = BTreeMap<FieldPath, (String, bool)>;

/// A section by its title, by a link to it, or by its type.
fn section(name: &str) -> String {
    name.replace(['#', '`', ' ', '-'], "").to_lowercase()
}

/// A field that isn't always there is left out in place of a null.
fn field(kind: &str, always: bool) -> (String, bool) {
    let sure = kind.strip_suffix(" or null").filter(|_| !always);
    (sure.unwrap_or(kind).to_owned(), always)
}

/// What `SCHEMA.md` has: the fields, what is said of each, and the names in each table of values.
type Described = (
    Fields,
    BTreeMap<FieldPath, &'static str>,
    Vec<BTreeSet<&'static str>>,
);

fn described() -> Described {
    let (mut fields, mut meanings, mut values) = Described::default();
    let mut title = String::new();
    for line in SCHEMA.lines() {
        match *line.split('|').map(str::trim).collect::<Vec<_>>() {
            [heading] if heading.starts_with("##") => title = section(heading),
            ["", name, kind, when, meaning, ""] if name.starts_with('`') && name != TYPE => {
                let link = kind.split_once('[').zip(kind.split_once("(#"));
                let link = link.map(|((of, _), (_, to))| format!("{of}#{}", section(to)));
                let kind = link.as_deref().map_or(kind, |link| link.trim_matches(')'));
                let place = (title.clone(), name.replace('`', ""));
                meanings.insert(place.clone(), meaning);
                let before = fields.insert(place, field(kind, when.is_empty()));
                assert!(before.is_none(), "{name} is described twice in {title}");
            }
            ["", names, _, ""] if names.starts_with('`') => {
                let table = values.last_mut().expect("a table has a head");
                table.extend(names.split('`').skip(1).step_by(2));
            }
            ["", head, _, ""] if !head.starts_with('-') => values.push(BTreeSet::new()),
            _ => {}
        }
    }
    (fields, meanings, values)
}

/// What the types say: the definitions of the JSON Schema.
struct Types(Map<String, Value>);

impl Types {
    fn definition(&self, schema: &Value) -> Option<(&String, &Value)> {
        let name = schema["$ref"].as_str()?.rsplit('/').next()?;
        self.0.get_key_value(name)
    }

    /// A type in the words of `SCHEMA.md`.
    fn words(&self, schema: &Value) -> String {
        if let Some((name, definition)) = self.definition(schema) {
            return match definition.get("properties") {
                Some(_) => format!("#{}", section(name)),
                None => self.words(definition),
            };
        }
        let many = |of: &Value| match self.words(of) {
            one if one.starts_with('#') => one,
            one => one.replace("address", "addresse") + "s",
        };
        let either = schema["anyOf"].as_array().or(schema["type"].as_array());
        let words = either.map_or(std::slice::from_ref(&schema["type"]), Vec::as_slice);
        let words = words.iter().map(|one| match one.as_str() {
            None if one.is_object() => self.words(one),
            Some("array") => format!("array of {}", many(&schema["items"])),
            Some("object") => format!("object of {}", many(&schema["additionalProperties"])),
            Some("string") if schema["pattern"].is_string() => "address".to_owned(),
            kind => kind.unwrap_or("string").to_owned(),
        });
        words.collect::<Vec<_>>().join(" or ")
    }

    /// The values that are listed.
    fn values<'a>(&'a self, schema: &'a Value) -> BTreeSet<&'a str> {
        let named = self.definition(schema).map(|(_, definition)| definition);
        let either = ["anyOf", "oneOf"].map(|key| schema[key].as_array());
        let parts = either.into_iter().flatten().flatten().chain(named);
        let values = parts.flat_map(|part| self.values(part));
        values.chain(schema["const"].as_str()).collect()
    }
}

/// The fields of a definition with their schemas, and whether they are always there.
fn fields<'a>(title: &str, definition: &'a Value) -> Vec<(FieldPath, &'a Value, bool)> {
    let all = definition["properties"].as_object().into_iter().flatten();
    let required = definition["required"].as_array();
    let is_required = |name| required.is_some_and(|all| all.contains(&Value::from(name)));
    all.map(|(name, schema)| {
        let place = (section(title), name.clone());
        (place, schema, is_required(name.as_str()))
    })
    .collect()
}

/// Every way in which a line can be told.
fn lines() -> Vec<Value> {
    let attached = Start {
        attached: vec![1234, 1240],
        ..samples::start()
    };
    let of_lab = samples::experiment().into_iter();
    let of_lab = of_lab.map(|what| samples::event(999_999, 1234, what));
    let events = story().into_iter().chain(of_lab).map(Line::Event);
    [Line::Start(attached), Line::End(whole_end())]
        .into_iter()
        .chain(events)
        .map(|line| serde_json::to_value(line).expect("JSON"))
        .collect()
}

/// Takes in the fields that a line has, and those within them.
fn meet(title: &str, line: &Value, fields: &Fields, met: &mut BTreeSet<FieldPath>) {
    for (name, value) in line.as_object().into_iter().flatten() {
        let mut places = [title, EVENT]
            .map(|title| (section(title), name.clone()))
            .into_iter();
        let Some(place) = places.find(|place| fields.contains_key(place)) else {
            assert_eq!(name, "type");
            continue;
        };
        if let Some((of, link)) = fields[&place].0.split_once('#') {
            match value {
                Value::Array(parts) => parts.iter().for_each(|part| meet(link, part, fields, met)),
                Value::Object(parts) if !of.is_empty() => {
                    parts
                        .values()
                        .for_each(|part| meet(link, part, fields, met));
                }
                part => meet(link, part, fields, met),
            }
        }
        met.insert(place);
    }
}

#[test]
fn what_is_described_is_what_the_types_have() {
    let schema = Value::from(json_schema());
    let types = Types(schema["$defs"].as_object().expect("definitions").clone());
    let event = &types.0["Event"];
    let mut all = fields(EVENT, event);
    let variants = [&schema["anyOf"], &event["oneOf"]];
    for variant in variants.iter().filter_map(|all| all.as_array()).flatten() {
        if let Some(name) = variant["properties"]["type"]["const"].as_str() {
            let (_, definition) = types.definition(variant).expect("its own fields");
            all.extend(fields(name, definition));
        }
    }
    for (name, definition) in &types.0 {
        let link = "#".to_owned() + &section(name);
        let mut others = types.0.values().flat_map(|other| fields("", other));
        if others.any(|(_, schema, _)| types.words(schema).replace(" or null", "").ends_with(&link))
        {
            all.extend(fields(name, definition));
        }
    }
    let (mut fields, meanings, tables) = described();
    let told: Fields = all
        .iter()
        .map(|(place, schema, always)| (place.clone(), field(&types.words(schema), *always)))
        .collect();
    let [one, other] = [&fields, &told].map(BTreeSet::from_iter);
    let differ: Vec<_> = one.symmetric_difference(&other).collect();
    assert!(differ.is_empty(), "described, or in the types: {differ:#?}");

    for (place, schema, _) in &all {
        let values = types.values(schema);
        let is_named = |value: &&str| meanings[place].contains(&format!("`{value}`"));
        assert!(
            tables.contains(&values) || values.iter().all(is_named),
            "{place:?}: not all of {values:?} are described"
        );
    }
    for table in &tables {
        let mut definitions = types.0.values();
        assert!(
            definitions.any(|definition| types.values(definition) == *table),
            "no type has all of {table:?}"
        );
    }

    // Of what is in no sample the other tests know nothing.
    let mut met = BTreeSet::new();
    for line in lines() {
        let title = line["type"].as_str().expect("a name");
        meet(title, &line, &fields, &mut met);
    }
    fields.retain(|place, _| !met.contains(place));
    assert!(fields.is_empty(), "in no sample: {fields:#?}");
}
