//! A configuration that may be shown: values that are usually secret are replaced.
//! Arguments of programs are shown as they are: other users of the machine see them as well.

use super::Config;

const REDACTED: &str = "(redacted)";

/// The same configuration without values of `env` and `headers` and without the query of URLs.
pub(crate) fn redact(mut config: Config) -> Config {
    for upstream in &mut config.upstreams {
        for value in upstream.env.values_mut().chain(upstream.headers.values_mut()) {
            REDACTED.clone_into(value);
        }
        if let Some(url) = &mut upstream.url
            && let Some(query) = url.find('?')
        {
            url.replace_range(query + 1.., REDACTED);
        }
    }
    config
}
