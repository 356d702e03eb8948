//! What values a configuration may hold, found out by giving the readers one value after the other and watching what
//! they ask of it. The schema and the reference are made from this: a key, a word or a range has no second place.

use std::ops::RangeInclusive;
use std::sync::Arc;

use userdata::{Asked, At, Fate, Kind, Known, Mark, Node, Question, Report, Scalar, Value};

/// What one value may be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// Anything: it is not looked at.
    Any,
    /// One of these kinds.
    Of {
        /// A single value.
        scalar: Option<Single>,
        /// A list of such items.
        list: Option<Box<Shape>>,
        /// A map.
        map: Option<Fields>,
    },
}

/// What a single value may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Single {
    /// Words that are known; with [`Self::text`] others may be, too.
    pub(crate) words: Vec<String>,
    pub(crate) truth: bool,
    pub(crate) int: Option<RangeInclusive<i64>>,
    pub(crate) duration: bool,
    pub(crate) text: bool,
}

/// What a map may hold.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Fields {
    /// These keys.
    Known(Vec<(Known, Shape)>),
    /// Any name, each with such a value.
    Named(Box<Shape>),
}

/// A step from the top of the tree to a value.
#[derive(Clone, Debug)]
enum Step {
    Key(Arc<str>),
    Item,
}

/// Stands for a name that the user chooses.
const NAME: &str = "NAME";

/// A network configuration is read by its version: 2 is looked at, and of the others these keys are known.
const NETWORK: &str = "holdfast.network";
const OTHER_NETWORKS: [&str; 2] = ["config", "network"];

/// No format nests deeper; a bound for readers that call themselves.
const MAX_STEPS: usize = 12;

/// The shape of a whole configuration.
pub(crate) fn shape() -> Shape {
    of(&mut Vec::new())
}

fn of(steps: &mut Vec<Step>) -> Shape {
    let single = ask(steps, text("1"));
    let list = ask(steps, Value::List(Arc::new(vec![node(text("1"))])));
    let map = ask(steps, Value::Map(Arc::default()));
    let named = ask(steps, entry(NAME, text("1")));
    let path = spell(steps);
    let takes = |questions: &[Question]| {
        !questions.iter().any(|question| question.path == path && question.asked == Asked::Other)
    };
    let here = |questions: &[Question]| -> Vec<Asked> {
        let here = questions.iter().filter(|question| question.path == path);
        here.map(|question| question.asked.clone()).collect()
    };
    let below = |questions: &[Question]| questions.iter().any(|question| question.path.starts_with(&path));
    if steps.len() == MAX_STEPS || [&single, &list, &named].iter().all(|questions| !below(questions)) {
        return Shape::Any;
    }
    let keys = here(&map).into_iter().find_map(|asked| match asked {
        Asked::Keys(keys) => Some(keys),
        _ => None,
    });
    let mut step = |next: Step| {
        steps.push(next);
        let shape = of(steps);
        steps.pop();
        shape
    };
    let fields = takes(&map).then(|| match keys {
        Some(keys) => {
            let mut fields: Vec<(Known, Shape)> = keys
                .into_iter()
                .map(|known| {
                    let shape = step(Step::Key(known.name.as_str().into()));
                    (known, shape)
                })
                .collect();
            if path == NETWORK {
                let other = |name: &str| Known { name: name.to_owned(), doc: "", fate: Fate::Read };
                fields.extend(OTHER_NETWORKS.map(|name| (other(name), Shape::Any)));
            }
            Fields::Known(fields)
        }
        None => Fields::Named(Box::new(step(Step::Key(NAME.into())))),
    });
    let items = takes(&list).then(|| Box::new(step(Step::Item)));
    Shape::Of { scalar: takes(&single).then(|| scalar(&here(&single))), list: items, map: fields }
}

fn scalar(asked: &[Asked]) -> Single {
    let mut single = Single::default();
    for asked in asked {
        match asked {
            Asked::Words(words) => single.words.extend(words.iter().cloned()),
            Asked::Truth => single.truth = true,
            Asked::Int(range) => single.int = Some(range.clone()),
            Asked::Duration => single.duration = true,
            Asked::Text => single.text = true,
            Asked::Keys(_) | Asked::Other => {}
        }
    }
    let nothing = !(single.truth || single.duration || single.text) && single.int.is_none();
    single.text |= nothing && single.words.is_empty();
    single
}

/// What the readers ask when `value` stands at the end of `steps`.
fn ask(steps: &[Step], value: Value) -> Vec<Question> {
    let mut value = value;
    let mut path = steps.to_vec();
    loop {
        value = as_looked_at(&spell(&path), value);
        value = match path.pop() {
            Some(Step::Key(key)) => entry(&key, value),
            Some(Step::Item) => Value::List(Arc::new(vec![node(value)])),
            None => break,
        };
    }
    let root = node(value);
    let report = Report::watching();
    crate::read(&At::root(&root, &report));
    report.finish().questions
}

/// With what has to be beside it so that the readers look at it.
fn as_looked_at(path: &str, value: Value) -> Value {
    match &value {
        Value::Map(entries) if path == NETWORK && entries.iter().all(|(key, _)| &*key.text != "version") => {
            let version = (key("version"), node(text("2")));
            Value::Map(Arc::new(entries.iter().cloned().chain([version]).collect()))
        }
        _ => value,
    }
}

fn text(text: &str) -> Value {
    Value::Scalar(Scalar { text: text.into(), kind: Kind::Text })
}

fn node(value: Value) -> Node {
    Node { value, mark: Mark::default() }
}

fn entry(name: &str, value: Value) -> Value {
    Value::Map(Arc::new(vec![(key(name), node(value))]))
}

fn key(text: &str) -> userdata::Key {
    userdata::Key { text: text.into(), mark: Mark::default() }
}

/// As [`At::path`] spells it.
fn spell(steps: &[Step]) -> String {
    steps.iter().fold(String::new(), |mut path, step| {
        match step {
            Step::Item => path.push_str("[0]"),
            Step::Key(key) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(key);
            }
        }
        path
    })
}
