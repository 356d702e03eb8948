//! Merging trees by the rules of cloud-init: each value of the older tree is given to the merger for its type.
//!
//! Differences, all on the strict side: what cloud-init's mergers ignore or fail on with a log line (a text appended to
//! a list, an unknown option) is an error here.

use std::collections::HashMap;
use std::sync::Arc;

use crate::problem::Mark;
use crate::tree::{Key, Kind, Node, Scalar, Value};

/// How the parts of user-data merge when they say nothing: a later part replaces whole top-level keys.
const DEFAULT: &str = "dict(replace)+list()+str()";

/// Why a merge rule cannot be used or values cannot be merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct MergeError {
    pub(crate) mark: Option<Mark>,
    pub(crate) message: String,
}

/// The mergers of one part.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mergers {
    dict: Option<DictMerger>,
    list: Option<ListMerger>,
    text: Option<TextMerger>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Recurse {
    text: bool,
    list: bool,
    dict: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct DictMerger {
    replace: bool,
    allow_delete: bool,
    recurse: Recurse,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct ListMerger {
    method: ListMethod,
    recurse: Recurse,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ListMethod {
    #[default]
    Replace,
    Append,
    Prepend,
    NoReplace,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct TextMerger {
    append: bool,
}

impl Mergers {
    /// What a part says in its own `merge_how` or `merge_type` comes first, then its header; the first merger for a
    /// type counts.
    pub(crate) fn new(content: Option<&Node>, header: Option<&str>) -> Result<Self, MergeError> {
        let mut mergers = Self::default();
        if let Some(node) = content {
            mergers.add_node(node)?;
        }
        if let Some(header) = header {
            mergers.add_text(header, None)?;
        }
        if mergers == Self::default() {
            mergers.add_text(DEFAULT, None)?;
        }
        if mergers.dict.is_none() {
            let mark = content.map(|node| node.mark);
            return Err(MergeError {
                mark,
                message: "the merge rule needs a dict() for the part's keys".to_owned(),
            });
        }
        Ok(mergers)
    }

    /// `name(option,option)+name()`
    fn add_text(&mut self, text: &str, mark: Option<Mark>) -> Result<(), MergeError> {
        let text = text.to_lowercase();
        for rule in text.split('+').map(str::trim).filter(|rule| !rule.is_empty()) {
            let Some((name, options)) =
                rule.split_once('(').and_then(|(n, o)| Some((n, o.strip_suffix(')')?)))
            else {
                let message = format!("'{rule}' is not a merge rule such as list(append)");
                return Err(MergeError { mark, message });
            };
            let options: Vec<&str> =
                options.split(',').map(str::trim).filter(|option| !option.is_empty()).collect();
            self.add(name, &options, mark)?;
        }
        Ok(())
    }

    /// Text, or a list of `{name, settings}` or of `[name, option...]`.
    fn add_node(&mut self, node: &Node) -> Result<(), MergeError> {
        let wrong = |node: &Node| MergeError {
            mark: Some(node.mark),
            message: "a merge rule is text like 'list(append)' or a list of maps with 'name' and 'settings'"
                .to_owned(),
        };
        let Value::List(rules) = &node.value else {
            return self.add_text(node.text().ok_or_else(|| wrong(node))?, Some(node.mark));
        };
        for rule in rules.iter() {
            let (name, options) = match &rule.value {
                Value::Map(_) => {
                    (rule.get("name"), rule.get("settings").map(std::slice::from_ref).unwrap_or_default())
                }
                Value::List(words) => (words.first(), words.get(1..).unwrap_or_default()),
                Value::Null | Value::Scalar(_) => return Err(wrong(rule)),
            };
            let name = name.and_then(Node::text).ok_or_else(|| wrong(rule))?;
            let mut words = Vec::new();
            for option in options {
                match &option.value {
                    Value::List(items) => words.extend(items.iter().map(Node::text)),
                    _ => words.push(option.text()),
                }
            }
            let words: Option<Vec<&str>> = words.into_iter().collect();
            self.add(&name.to_lowercase(), &words.ok_or_else(|| wrong(rule))?, Some(rule.mark))?;
        }
        Ok(())
    }

    fn add(&mut self, name: &str, options: &[&str], mark: Option<Mark>) -> Result<(), MergeError> {
        let name = name.trim().replace('-', "_");
        let name = name.strip_prefix("m_").unwrap_or(&name);
        let options: Vec<String> =
            options.iter().map(|option| option.to_lowercase().replace('-', "_")).collect();
        let has = |word: &str| options.iter().any(|option| option == word);
        let recurse = Recurse {
            text: has("recurse_str"),
            list: has("recurse_array") || has("recurse_list"),
            dict: has("recurse_dict"),
        };
        const RECURSE: [&str; 4] = ["recurse_str", "recurse_array", "recurse_list", "recurse_dict"];
        let known: &[&str] = match name {
            "dict" => {
                let merger =
                    DictMerger { replace: has("replace"), allow_delete: has("allow_delete"), recurse };
                self.dict.get_or_insert(merger);
                &["replace", "no_replace", "allow_delete"]
            }
            "list" => {
                let method = match () {
                    () if has("append") => ListMethod::Append,
                    () if has("prepend") => ListMethod::Prepend,
                    () if has("no_replace") && !has("replace") => ListMethod::NoReplace,
                    () => ListMethod::Replace,
                };
                self.list.get_or_insert(ListMerger { method, recurse });
                &["append", "prepend", "replace", "no_replace"]
            }
            "str" => {
                self.text.get_or_insert(TextMerger { append: has("append") });
                &["append"]
            }
            _ => {
                let message = format!("'{name}' is not a merger: dict, list and str are");
                return Err(MergeError { mark, message });
            }
        };
        let is_known =
            |option: &&String| !known.contains(&option.as_str()) && !RECURSE.contains(&option.as_str());
        match options.iter().find(is_known) {
            Some(option) => Err(MergeError {
                mark,
                message: format!("'{option}' is not an option of the merger {name}()"),
            }),
            None => Ok(()),
        }
    }

    /// Merges `new` into `old`.
    pub(crate) fn merge(&self, old: Node, new: Node) -> Result<Node, MergeError> {
        let mark = old.mark;
        match (old.value, self) {
            (Value::Map(entries), Self { dict: Some(merger), .. }) => {
                let Value::Map(new) = new.value else { return Ok(Node { value: Value::Map(entries), mark }) };
                let entries = self.merge_maps(*merger, owned(entries), owned(new))?;
                Ok(Node { value: Value::Map(Arc::new(entries)), mark })
            }
            (Value::List(items), Self { list: Some(merger), .. }) => {
                self.merge_lists(*merger, Node { value: Value::List(items), mark }, new)
            }
            (Value::Scalar(old), Self { text: Some(merger), .. }) if old.kind == Kind::Text => {
                merge_texts(*merger, &old, new)
            }
            (value, _) => Ok(Node { value, mark }),
        }
    }

    fn merge_maps(
        &self,
        merger: DictMerger,
        old: Vec<(Key, Node)>,
        new: Vec<(Key, Node)>,
    ) -> Result<Vec<(Key, Node)>, MergeError> {
        let index: HashMap<Arc<str>, usize> =
            old.iter().enumerate().map(|(at, (key, _))| (Arc::clone(&key.text), at)).collect();
        let mut merged: Vec<Option<(Key, Node)>> = old.into_iter().map(Some).collect();
        for (key, value) in new {
            let slot = index.get(&key.text).and_then(|at| merged.get_mut(*at));
            let Some(slot) = slot else {
                merged.push(Some((key, value)));
                continue;
            };
            if merger.allow_delete && matches!(value.value, Value::Null) {
                *slot = None;
            } else if merger.replace {
                *slot = Some((key, value));
            } else if merger.recurse.into(&value, true)
                && let Some((key, old)) = slot.take()
            {
                *slot = Some((key, self.merge(old, value)?));
            }
        }
        Ok(merged.into_iter().flatten().collect())
    }

    fn merge_lists(&self, merger: ListMerger, old: Node, new: Node) -> Result<Node, MergeError> {
        let mark = old.mark;
        let Value::List(items) = old.value else { return Ok(new) };
        let new_items = match (new.value, merger.method) {
            (Value::List(new), _) => new,
            (value, ListMethod::Replace) => return Ok(Node { value, mark: new.mark }),
            (_, ListMethod::NoReplace) => return Ok(Node { value: Value::List(items), mark }),
            (_, ListMethod::Append | ListMethod::Prepend) => {
                let message = "this cannot be added to a list: it is not a list".to_owned();
                return Err(MergeError { mark: Some(new.mark), message });
            }
        };
        let (mut items, new_items) = (owned(items), owned(new_items));
        match merger.method {
            ListMethod::Append => items.extend(new_items),
            ListMethod::Prepend => {
                items.splice(0..0, new_items);
            }
            ListMethod::NoReplace => {}
            // Only the places that both have: cloud-init leaves out what the new list has beyond the old one's end.
            ListMethod::Replace => {
                for (slot, new) in items.iter_mut().zip(new_items) {
                    *slot = if merger.recurse.into(&new, merger.recurse.dict) {
                        let old = std::mem::replace(slot, Node { value: Value::Null, mark });
                        self.merge(old, new)?
                    } else {
                        new
                    };
                }
            }
        }
        Ok(Node { value: Value::List(Arc::new(items)), mark })
    }
}

impl Recurse {
    /// Whether the merger of the older value is asked, by the type of the newer one.
    fn into(self, new: &Node, dict: bool) -> bool {
        match &new.value {
            Value::List(_) => self.list,
            Value::Map(_) => dict,
            Value::Scalar(Scalar { kind: Kind::Text, .. }) => self.text,
            Value::Scalar(_) | Value::Null => false,
        }
    }
}

fn merge_texts(merger: TextMerger, old: &Scalar, new: Node) -> Result<Node, MergeError> {
    if !merger.append {
        return Ok(new);
    }
    match &new.value {
        Value::Scalar(Scalar { text, kind: Kind::Text }) => {
            let text = [&*old.text, text].concat().into();
            Ok(Node { value: Value::Scalar(Scalar { text, kind: Kind::Text }), mark: new.mark })
        }
        _ => Err(MergeError {
            mark: Some(new.mark),
            message: "this cannot be added to a text: it is not text".into(),
        }),
    }
}

/// `user` with what only `vendor` says: `user` wins, maps recurse, lists do not merge.
pub fn below(user: Node, vendor: Node) -> Node {
    let mark = user.mark;
    let (user, vendor) = match (user.value, vendor.value) {
        (Value::Map(user), Value::Map(vendor)) => (owned(user), owned(vendor)),
        (Value::Null, vendor @ Value::Map(_)) => return Node { value: vendor, mark },
        (value, _) => return Node { value, mark },
    };
    let index: HashMap<Arc<str>, usize> =
        user.iter().enumerate().map(|(at, (key, _))| (Arc::clone(&key.text), at)).collect();
    let mut merged = user;
    for (key, value) in vendor {
        match index.get(&key.text).and_then(|at| merged.get_mut(*at)) {
            None => merged.push((key, value)),
            Some((_, old)) if matches!(old.value, Value::Map(_)) => {
                let taken = std::mem::replace(old, Node { value: Value::Null, mark });
                *old = below(taken, value);
            }
            Some(_) => {}
        }
    }
    Node { value: Value::Map(Arc::new(merged)), mark }
}

fn owned<T: Clone>(shared: Arc<Vec<T>>) -> Vec<T> {
    Arc::unwrap_or_clone(shared)
}
