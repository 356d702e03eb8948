//! What is done once per instance: random seed, telling somebody, powering off.

use userdata::{At, KeySpec as Key, Kind, MAX_SIZE, Use};

use super::files::{decode, encoding};
use super::{Machine, take};

/// What happens when everything is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerState {
    /// What.
    pub mode: PowerMode,
    /// When.
    pub delay: Delay,
    /// Said on the console.
    pub message: Option<String>,
    /// How many seconds the rest of the boot may take.
    pub timeout_s: u32,
    /// Whether it happens at all.
    pub condition: bool,
}

/// What becomes of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerMode {
    /// Off.
    Poweroff,
    /// Started again.
    Reboot,
    /// Stopped.
    Halt,
}

/// When.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delay {
    /// At once.
    #[default]
    Now,
    /// After so many minutes.
    Minutes(u32),
}

#[derive(Default)]
struct PowerDraft {
    mode: Option<PowerMode>,
    delay: Delay,
    message: Option<String>,
    timeout_s: Option<u32>,
    condition: Option<bool>,
}

pub(super) fn power_state(at: &At<'_>) -> Option<PowerState> {
    let table: [Key<PowerDraft>; 5] = [
        take(
            "mode",
            |at, draft: &mut PowerDraft| {
                let words = [
                    ("poweroff", PowerMode::Poweroff),
                    ("reboot", PowerMode::Reboot),
                    ("halt", PowerMode::Halt),
                ];
                draft.mode = at.word(&words);
            },
            "What becomes of the machine. Required.",
        ),
        take(
            "delay",
            |at, draft| draft.delay = delay(at).unwrap_or_default(),
            "`now` (default), or minutes: `+5`.",
        ),
        take("message", |at, draft| draft.message = at.text().map(str::to_owned), "Said on the console."),
        take(
            "timeout",
            |at, draft| draft.timeout_s = number(at),
            "Seconds that the rest of the boot may take. Default 30.",
        ),
        take("condition", condition, "`true` (default) or `false`; a command is an error."),
    ];
    let mut draft = PowerDraft::default();
    at.section("'power_state'", &table, &mut draft);
    if at.is_map() && at.get("mode").is_none() {
        at.error("has no 'mode': poweroff, reboot or halt");
    }
    Some(PowerState {
        mode: draft.mode?,
        delay: draft.delay,
        message: draft.message,
        timeout_s: draft.timeout_s.unwrap_or(30),
        condition: draft.condition.unwrap_or(true),
    })
}

fn delay(at: &At<'_>) -> Option<Delay> {
    let text = at.text()?;
    if text == "now" {
        return Some(Delay::Now);
    }
    let minutes = text.strip_prefix('+').unwrap_or(text).parse().ok();
    if minutes.is_none() {
        at.error_with_hint(format!("'{text}' is not a delay"), "'now', or minutes: '+5'");
    }
    minutes.map(Delay::Minutes)
}

fn condition(at: &At<'_>, draft: &mut PowerDraft) {
    let truth = at.scalar().map(|scalar| scalar.text.to_ascii_lowercase());
    draft.condition = match truth.as_deref() {
        Some("true" | "yes" | "on") => Some(true),
        Some("false" | "no" | "off") => Some(false),
        _ => {
            at.error_with_hint(
                "a condition of power_state must be true or false",
                "there is no shell to run a command",
            );
            None
        }
    };
}

fn number(at: &At<'_>) -> Option<u32> {
    at.int(0..=i64::from(u32::MAX)).and_then(|number| u32::try_from(number).ok())
}

/// Who is told that the instance is up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhoneHome {
    /// Where; `$INSTANCE_ID` and `{{ v1.instance_id }}` stand for the instance.
    pub url: String,
    /// What.
    pub post: Post,
    /// How often it is tried.
    pub tries: u32,
}

/// What is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Post {
    /// Everything.
    #[default]
    All,
    /// These fields.
    Fields(Vec<String>),
}

const FIELDS: [&str; 7] =
    ["pub_key_rsa", "pub_key_ecdsa", "pub_key_ed25519", "pub_key_dsa", "instance_id", "hostname", "fqdn"];

pub(super) fn phone_home(at: &At<'_>) -> Option<PhoneHome> {
    let table: [Key<PhoneHome>; 3] = [
        take(
            "url",
            |at, home: &mut PhoneHome| home.url = url(at).unwrap_or_default(),
            "`http://` or `https://`; `$INSTANCE_ID` and `{{ v1.instance_id }}` are replaced. Required.",
        ),
        take(
            "post",
            |at, home| home.post = post(at),
            "`all` (default), or a list of `pub_key_rsa`, `pub_key_ecdsa`, `pub_key_ed25519`, `instance_id`, `hostname`, `fqdn`.",
        ),
        take(
            "tries",
            |at, home| home.tries = number(at).unwrap_or(10).max(1),
            "How often it is tried. Default 10.",
        ),
    ];
    let mut home = PhoneHome { url: String::new(), post: Post::All, tries: 10 };
    at.section("'phone_home'", &table, &mut home);
    if at.is_map() && at.get("url").is_none() {
        at.error("has no 'url'");
    }
    (!home.url.is_empty()).then_some(home)
}

fn url(at: &At<'_>) -> Option<String> {
    let text = at.text()?;
    if !["http://", "https://"].iter().any(|scheme| text.to_lowercase().starts_with(scheme)) {
        at.error("must begin with http:// or https://");
        return None;
    }
    let without = text.replace("{{ v1.instance_id }}", "").replace("{{v1.instance_id}}", "");
    if without.contains("{{") {
        at.error_with_hint(
            "templates are not rendered",
            "'{{ v1.instance_id }}' and '$INSTANCE_ID' are replaced",
        );
        return None;
    }
    Some(text.to_owned())
}

fn post(at: &At<'_>) -> Post {
    if at.node.text() == Some("all") {
        return Post::All;
    }
    let mut fields = Vec::new();
    for item in at.list_or_one() {
        match item.text() {
            Some(field) if FIELDS.contains(&field) => fields.push(field.to_owned()),
            Some(field) => {
                let near = userdata::nearest(field, FIELDS.into_iter());
                let hint = near.map_or_else(String::new, |near| format!("did you mean '{near}'?"));
                item.error_with_hint(format!("'{field}' is not a field that can be told"), &hint);
            }
            None => {}
        }
    }
    Post::Fields(fields)
}

#[derive(Default)]
struct Seed {
    data: Vec<u8>,
    is_binary: bool,
    encoding: super::files::Encoding,
}

pub(super) fn random_seed(at: &At<'_>, machine: &mut Machine) {
    let table: [Key<Seed>; 5] = [
        take(
            "data",
            |at, seed: &mut Seed| {
                seed.data = at.text().unwrap_or_default().as_bytes().to_vec();
                seed.is_binary = at.scalar().is_some_and(|scalar| scalar.kind == Kind::Binary);
            },
            "The bytes.",
        ),
        take(
            "encoding",
            |at, seed| seed.encoding = encoding(at).unwrap_or_default(),
            "`b64`, `gzip`, `gz+b64` and their other spellings.",
        ),
        Key { name: "file", use_: Use::Quiet, doc: "" },
        Key { name: "command", use_: Use::NotApplicable, doc: "there is no shell; 'data' is used" },
        Key { name: "command_required", use_: Use::Quiet, doc: "" },
    ];
    let mut seed = Seed::default();
    at.section("'random_seed'", &table, &mut seed);
    match decode(seed.data, seed.is_binary, seed.encoding, &mut MAX_SIZE.clone()) {
        Ok(bytes) => machine.random_seed = bytes,
        Err(why) => at.get("data").as_ref().unwrap_or(at).error(format!("the data {why}")),
    }
    if let Some(file) = at.get("file").filter(|file| !matches!(file.node.text(), None | Some("/dev/urandom")))
    {
        file.not_applicable(
            "'file' is not applicable on a node",
            "the data goes to the kernel's random pool",
        );
    }
}
