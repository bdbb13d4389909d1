//! Keys of a cluster: an authority and the nodes' certificate, made without any other tool.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, Error, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};

/// The name in every node's certificate: a node is checked to belong to the cluster, not to be a certain host.
pub const SERVER_NAME: &str = "node.enfilade";

/// How long the certificates are valid.
const VALID_YEARS: i32 = 10;

/// What `enfilade keys` writes. All PEM.
pub struct Keys {
    /// The authority's certificate. Its private key is forgotten: new keys are made for all nodes together.
    pub ca_cert: String,
    /// The certificate of the nodes.
    pub node_cert: String,
    /// Its private key.
    pub node_key: String,
}

/// Why keys could not be made.
#[derive(Debug, thiserror::Error)]
#[error("keys cannot be made: {0}")]
pub struct KeysError(#[from] Error);

/// Makes the keys of a new cluster: valid from yesterday, for ten years.
pub fn generate() -> Result<Keys, KeysError> {
    let mut authority = params("enfilade cluster", Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

    let mut node = params("enfilade node", vec![SERVER_NAME.to_owned()])?;
    node.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    node.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    node.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let cert = node.signed_by(&key, &authority)?;
    Ok(Keys { ca_cert: authority.pem(), node_cert: cert.pem(), node_key: key.serialize_pem() })
}

fn params(name: &str, names: Vec<String>) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    let (year, month, day) = yesterday();
    params.not_before = date_time_ymd(year, month, day);
    // The 29th of February is not in every year.
    params.not_after = date_time_ymd(year + VALID_YEARS, month, day.min(28));
    Ok(params)
}

/// Clocks of nodes differ: a certificate is valid from the day before it was made.
fn yesterday() -> (i32, u8, u8) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    civil(i64::try_from(now.as_secs() / 86_400).unwrap_or(0) - 1)
}

/// The date of a day counted from 1970-01-01, in the Gregorian calendar: eras of 400 years, years beginning in March.
fn civil(days: i64) -> (i32, u8, u8) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (i32::try_from(year).unwrap_or(1970), u8::try_from(month).unwrap_or(1), u8::try_from(day).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::civil;

    #[test]
    fn days_become_dates() {
        for (days, date) in [
            (0, (1970, 1, 1)),
            (-1, (1969, 12, 31)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (19_782, (2024, 2, 29)),
            (20_453, (2025, 12, 31)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(civil(days), date, "day {days}");
        }
    }
}
