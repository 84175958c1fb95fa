use super::*;
use proptest::prelude::*;

/// Of RFC 7748 section 6.1: Alice's.
const PRIVATE: &str = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=";
const PUBLIC: &str = "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo=";

#[test]
fn a_public_key_belongs_to_a_private_key_as_in_rfc_7748() {
    let private: PrivateKey = PRIVATE.parse().unwrap();
    assert_eq!(private.public(), PUBLIC.parse().unwrap());
    assert_eq!(private.public().to_string(), PUBLIC);
    assert_eq!(*private.to_base64(), PRIVATE);
}

#[test]
fn spaces_around_a_key_do_not_matter() {
    let key: PublicKey = format!("  {PUBLIC}\r\n").parse().unwrap();
    assert_eq!(key.to_string(), PUBLIC);
}

#[test]
fn an_error_says_what_is_wrong_and_the_form_and_nothing_of_the_key() {
    let short = &PRIVATE[..43];
    let zeros = format!("{}=", "A".repeat(43));
    for (text, words) in [
        ("", "it is empty"),
        ("\n", "it is empty"),
        (short, "it has 43 characters"),
        (&PRIVATE.replace('=', "A"), "it is not base64 of 32 bytes"),
        (&PRIVATE.replace('t', "-"), "it is not base64 of 32 bytes"),
        // Bits after the last byte: another text of the same key.
        (&PRIVATE.replace("o=", "p="), "it is not base64 of 32 bytes"),
        (&zeros, "it is a key of zeros, which means none"),
    ] {
        let error = text.parse::<PrivateKey>().unwrap_err().to_string();
        let expected =
            format!("a private key is 44 characters of base64, as `wg genkey` prints it: {words}");
        assert_eq!(error, expected);
        assert!(!format!("{error:?}").contains("dwd"));
    }
    let error = "x".parse::<PresharedKey>().unwrap_err().to_string();
    assert!(error.contains("wg genpsk"), "{error}");
    let error = "x".parse::<PublicKey>().unwrap_err().to_string();
    assert!(error.contains("wg pubkey"), "{error}");
}

#[test]
fn debug_output_shows_nothing_secret() {
    let private: PrivateKey = PRIVATE.parse().unwrap();
    let preshared: PresharedKey = PRIVATE.parse().unwrap();
    assert_eq!(format!("{private:?}"), "PrivateKey");
    assert_eq!(format!("{preshared:?}"), "PresharedKey");
    let keys = format!("{:?}", PresharedKeys::one(preshared));
    assert_eq!(keys, "PresharedKeys { first: PresharedKey, second: None }");
}

#[test]
fn generated_keys_differ_and_are_clamped() {
    let (one, two) = (PrivateKey::generate(), PrivateKey::generate());
    assert_ne!(one.public(), two.public());
    let bytes = *one.secret().as_bytes();
    assert_eq!((bytes[0] & 0b111, bytes[31] >> 6), (0, 0b01));
    assert_ne!(PresharedKey::generate(), PresharedKey::generate());
}

#[test]
fn one_or_two_pre_shared_keys_are_read_one_a_line() {
    let [a, b, c] = [0; 3].map(|_| PresharedKey::generate());
    let text = |keys: &[&PresharedKey]| -> String {
        let lines = keys.iter().map(|key| format!("{}\n\n", *key.to_base64()));
        lines.collect()
    };
    let parsed = |keys: &[&PresharedKey]| text(keys).parse::<PresharedKeys>();
    assert_eq!(parsed(&[&a]), Ok(PresharedKeys::one(a.clone())));
    let two = parsed(&[&a, &b]).unwrap();
    assert_eq!(two.iter().collect::<Vec<_>>(), [&a, &b]);
    assert_eq!(two.count(), 2);
    assert_eq!(
        (two.newest(), PresharedKeys::one(a.clone()).newest()),
        (&b, &a)
    );
    assert_eq!(two.to_lines().parse(), Ok(two));
    assert_eq!(parsed(&[&a, &a]), Ok(PresharedKeys::one(a.clone())));
    assert_eq!(parsed(&[]), Err(InvalidKeys::None));
    assert_eq!(parsed(&[&a, &b, &c]), Err(InvalidKeys::Many(3)));
    let error = format!("{}\nsecret", *a.to_base64());
    let error = error.parse::<PresharedKeys>().unwrap_err().to_string();
    assert!(
        error.starts_with("line 2: a pre-shared key is 44"),
        "{error}"
    );
    assert!(!error.contains("secret"));
}

proptest! {
    #[test]
    fn any_key_is_read_as_it_was_written(bytes in any::<[u8; 32]>()) {
        prop_assume!(bytes != [0; 32]);
        let text = STANDARD.encode(bytes);
        let public: PublicKey = text.parse().unwrap();
        prop_assert_eq!(public.as_bytes(), &bytes);
        prop_assert_eq!(text.parse::<PresharedKey>().unwrap().bytes(), bytes);
        let private: PrivateKey = text.parse().unwrap();
        prop_assert_eq!(&*private.to_base64(), &text);
    }

    #[test]
    fn any_text_is_a_key_or_an_error_without_it(text in "\\PC{0,60}") {
        if let Err(error) = text.parse::<PresharedKey>() {
            let trimmed = text.trim();
            let harmless = trimmed.len() < 20;
            prop_assert!(harmless || !error.to_string().contains(trimmed));
        }
    }
}
