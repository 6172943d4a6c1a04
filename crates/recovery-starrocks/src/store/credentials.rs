//! Settings of object stores from the usual variables, and of AWS also from the profile files.
//!
//! The caller hands in a look-up of the environment; nothing here reads it by itself.

/// AWS variables; the key of the store's setting is the name in lower case.
const AWS: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_DEFAULT_REGION",
    "AWS_REGION",
    "AWS_ENDPOINT",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_SKIP_SIGNATURE",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
];

const GOOGLE: &[&str] = &[
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SKIP_SIGNATURE",
];

const AZURE: &[&str] = &[
    "AZURE_STORAGE_ACCOUNT_NAME",
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_TOKEN",
    "AZURE_STORAGE_CLIENT_ID",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_STORAGE_TENANT_ID",
    "AZURE_STORAGE_ENDPOINT",
    "AZURE_SKIP_SIGNATURE",
];

/// What was found.
#[derive(Default)]
pub(super) struct Settings {
    pub(super) aws: Vec<(String, String)>,
    pub(super) google: Vec<(String, String)>,
    pub(super) azure: Vec<(String, String)>,
    /// Values that must not be shown.
    pub(super) secrets: Vec<String>,
}

impl Settings {
    pub(super) fn of(env: &dyn Fn(&str) -> Option<String>) -> Self {
        let take = |list: &[&str]| -> Vec<(String, String)> {
            list.iter()
                .filter_map(|name| Some((name.to_ascii_lowercase(), env(name).filter(|v| !v.is_empty())?)))
                .collect()
        };
        let mut out = Self { aws: take(AWS), google: take(GOOGLE), azure: take(AZURE), secrets: Vec::new() };
        if !out.aws.iter().any(|(k, _)| k == "aws_access_key_id") {
            out.aws.extend(profile(env));
        }
        let hidden = |k: &str| {
            ["key", "secret", "token", "authorization"].iter().any(|w| k.contains(w)) && !k.ends_with("_file")
        };
        let all = out.aws.iter().chain(&out.google).chain(&out.azure);
        out.secrets = all.filter(|(k, _)| hidden(k)).map(|(_, v)| v.clone()).collect();
        out
    }
}

/// The chosen profile of `~/.aws/credentials` and `~/.aws/config`.
fn profile(env: &dyn Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let name = env("AWS_PROFILE").unwrap_or_else(|| "default".to_owned());
    let home = env("HOME").unwrap_or_default();
    let credentials = env("AWS_SHARED_CREDENTIALS_FILE").unwrap_or_else(|| format!("{home}/.aws/credentials"));
    let config = env("AWS_CONFIG_FILE").unwrap_or_else(|| format!("{home}/.aws/config"));
    let mut out = Vec::new();
    for (path, section) in [(credentials, name.clone()), (config, format!("profile {name}"))] {
        let Ok(text) = std::fs::read_to_string(path) else { continue };
        out.extend(section_of(&text, &section, &name));
    }
    let has_region = env("AWS_REGION").or_else(|| env("AWS_DEFAULT_REGION")).is_some();
    out.retain(|(k, _)| !(has_region && k == "aws_region"));
    out
}

/// The settings of one section of an ini file.
fn section_of(text: &str, section: &str, plain: &str) -> Vec<(String, String)> {
    let mut inside = false;
    let mut out = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            let name = name.trim();
            inside = name == section || (plain == "default" && name == "default");
            continue;
        }
        let Some((key, value)) = line.split_once('=').filter(|_| inside && !line.starts_with('#')) else { continue };
        let key = match key.trim() {
            "region" => "aws_region",
            "endpoint_url" => "aws_endpoint_url",
            k @ ("aws_access_key_id" | "aws_secret_access_key" | "aws_session_token") => k,
            _ => continue,
        };
        out.push((key.to_owned(), value.trim().to_owned()));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_are_read() {
        let text =
            "[default]\naws_access_key_id = A\n[other]\naws_access_key_id = B\naws_secret_access_key=C\nregion = r\n";
        let found = section_of(text, "other", "other");
        assert_eq!(found.len(), 3);
        assert!(found.contains(&("aws_secret_access_key".into(), "C".into())));
    }

    #[test]
    fn secrets_are_known() {
        let env = |k: &str| (k == "AWS_ACCESS_KEY_ID" || k == "AWS_SECRET_ACCESS_KEY").then(|| format!("v-{k}"));
        let found = Settings::of(&env);
        assert_eq!(found.secrets.len(), 2);
    }
}
