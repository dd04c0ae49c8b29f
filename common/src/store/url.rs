//! Store URLs: what of them is a folder, and which.

use std::path::{Component, Path, PathBuf};

use crate::error::{Error, Result};

/// Kinds of URL that a store can have, beside `file:`.
const REMOTE: [&str; 9] = ["s3", "s3a", "gs", "az", "azure", "abfs", "abfss", "adl", "https"];

/// The folder that a store URL names, if it names one; relative where the URL is.
///
/// `file:` URLs are percent-decoded, a plain path is taken as it stands, and `~/` is the home folder.
pub fn local_folder(url: &str) -> Option<PathBuf> {
    parse_folder(url).ok().flatten()
}

/// As [`local_folder`].
///
/// # Errors
/// A `file:` URL of another host, or one that does not decode.
pub(crate) fn parse_folder(url: &str) -> Result<Option<PathBuf>> {
    if url.trim().is_empty() {
        return Err(Error::Spec(
            "the store's URL is empty (an unset variable?); write file:PATH, s3://BUCKET/PREFIX, ...".into(),
        ));
    }
    let Some(rest) = strip_scheme(url, "file") else {
        return Ok((!url.contains("://")).then(|| expand_home(url)));
    };
    let path = match rest.strip_prefix("//") {
        None => rest,
        Some(path) if path.starts_with('/') || path.starts_with("./") || path.starts_with("../") => path,
        Some(path) if path.starts_with("localhost/") => &path["localhost".len()..],
        Some(path) => {
            let host = path.split('/').next().unwrap_or_default();
            let advice = format!("write file:{path} for a folder relative to this one, or file:///{path} from the root");
            return Err(Error::Store(format!("{url}: names the host {host:?}, but a file URL has none; {advice}")));
        }
    };
    if path.is_empty() {
        return Err(Error::Store(format!("{url}: names no folder; write file:PATH")));
    }
    decode(path).map(|path| Some(expand_home(&path))).ok_or_else(|| {
        Error::Store(format!("{url}: a percent sign must be followed by two hexadecimal digits; write %25 for the sign itself"))
    })
}

/// The URL with its folder made absolute, relative to `base`; other URLs stay as they are.
///
/// # Errors
/// A URL of no kind that Artel knows.
pub fn absolute_url(url: &str, base: &Path) -> Result<String> {
    match parse_folder(url)? {
        Some(folder) => folder_url(&resolve(&base.join(folder))?),
        None => {
            let scheme = url.split("://").next().unwrap_or_default().to_ascii_lowercase();
            if REMOTE.contains(&scheme.as_str()) || scheme == "http" {
                return Ok(url.trim_end_matches('/').to_owned());
            }
            Err(Error::Store(format!(
                "{url}: not a store that Artel knows; write file:PATH, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
            )))
        }
    }
}

/// The `file:` URL of an absolute folder; [`local_folder`] reads it back.
pub(crate) fn folder_url(folder: &Path) -> Result<String> {
    let text =
        folder.to_str().ok_or_else(|| Error::Store(format!("{}: a store's folder must have a UTF-8 name", folder.display())))?;
    Ok(format!("file:{}", text.replace('%', "%25")))
}

/// An absolute path without `.` and `..`; a `..` after a link goes where the system would go.
pub(crate) fn resolve(path: &Path) -> Result<PathBuf> {
    let absolute = std::path::absolute(path).map_err(|e| Error::io(path, e))?;
    let mut clean = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => {
                clean = clean.canonicalize().unwrap_or(clean);
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    Ok(clean)
}

fn strip_scheme<'a>(url: &'a str, scheme: &str) -> Option<&'a str> {
    let (head, rest) = url.split_once(':')?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

fn expand_home(path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => Path::new(&home).join(rest),
        _ => PathBuf::from(path),
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' {
            let hex = std::str::from_utf8(tail.get(..2)?).ok().filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()))?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every spelling of a folder finds it. Method: each form, beside the path that it must give.
    #[test]
    fn folders() {
        let cases = [
            ("file:./a", Some("./a")),
            ("file:a/b", Some("a/b")),
            ("file:/a/b", Some("/a/b")),
            ("file:///a/b", Some("/a/b")),
            ("FILE:///a%20b", Some("/a b")),
            ("file://localhost/a", Some("/a")),
            ("file://./a", Some("./a")),
            ("a%20b", Some("a%20b")),
            ("/a", Some("/a")),
            ("s3://bucket/a", None),
        ];
        for (url, folder) in cases {
            assert_eq!(local_folder(url), folder.map(PathBuf::from), "{url}");
        }
        for wrong in ["file://host/a", "file:", "file:/a%2", "file:/a%zz"] {
            let error = parse_folder(wrong).expect_err(wrong).to_string();
            assert!(error.starts_with(wrong), "{error}");
        }
    }

    /// Goal: an absolute URL reads back as its folder. Method: names with spaces, percent signs, dots and other scripts.
    #[test]
    fn round_trip() {
        let base = Path::new("/base");
        for (url, absolute) in [
            ("file:a b", "/base/a b"),
            ("100%", "/base/100%"),
            ("file:./x/../é", "/base/é"),
            ("/y/./z/", "/y/z"),
            ("file:..", "/"),
        ] {
            let url = absolute_url(url, base).expect(url);
            assert_eq!(local_folder(&url), Some(PathBuf::from(absolute)), "{url}");
        }
        assert_eq!(absolute_url("s3://b/p/", base).expect("a bucket"), "s3://b/p");
        assert!(absolute_url("ftp://b/p", base).is_err());
    }
}
