//! `NAME=OCI-LAYOUT-DIR[:TAG]`, as `--image` takes it.

use std::path::PathBuf;
use std::str::FromStr;

/// An image to bake in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageSpec {
    /// The reference that services will name it by, in its full form.
    pub(crate) name: String,
    /// The OCI image layout that it comes from.
    pub(crate) layout: PathBuf,
    /// Which image of the layout.
    pub(crate) tag: Option<String>,
}

impl FromStr for ImageSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usage = || format!("'{text}' is not NAME=OCI-LAYOUT-DIR[:TAG]");
        let (name, source) = text.split_once('=').ok_or_else(usage)?;
        let named = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b));
        if name.is_empty() || !named {
            return Err(format!("'{name}' is no image reference"));
        }
        let (layout, tag) = match source.rsplit_once(':') {
            Some((layout, tag)) if !tag.contains('/') => (layout, Some(tag)),
            _ => (source, None),
        };
        if layout.is_empty() || tag == Some("") {
            return Err(usage());
        }
        let name = images::expand_reference(name);
        Ok(Self { name, layout: layout.into(), tag: tag.map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_colon_begins_the_tag() {
        for (text, name, layout, tag) in [
            ("nginx=out/nginx", "docker.io/library/nginx:latest", "out/nginx", None),
            ("nginx:1.27=/a:b/c:v1", "docker.io/library/nginx:1.27", "/a:b/c", Some("v1")),
            ("r:5000/x=/a:b/c", "r:5000/x:latest", "/a:b/c", None),
        ] {
            let spec: ImageSpec = text.parse().unwrap();
            assert_eq!(
                (spec.name.as_str(), spec.layout.to_str(), spec.tag.as_deref()),
                (name, Some(layout), tag)
            );
        }
        for bad in ["nginx", "=dir", "nginx=", "nginx=:tag", "nginx=dir:", "ng inx=dir"] {
            assert!(bad.parse::<ImageSpec>().is_err(), "{bad}");
        }
    }
}
