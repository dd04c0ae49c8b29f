use super::*;

const ENGLISH: &str = "The warranty of this device ends after two years. Whoever repairs it himself loses the warranty. Spare parts are \
     delivered for ten years, and the customer service answers every question within two working days.";
const GERMAN: &str = "Die Garantie für das Gerät endet nach zwei Jahren. Wer es selbst repariert, verliert die Garantie. Ersatzteile \
     werden zehn Jahre lang geliefert, und der Kundendienst beantwortet jede Frage innerhalb von zwei Arbeitstagen.";

fn differs(chunk: &str, text: &str) -> Option<(String, String)> {
    let mut language = Language::default();
    language.read(chunk);
    language.differs(text)
}

/// Goal: another script or language is found where it is sure, the own one and names never are. Method: English and German
/// chunks with texts in several languages.
#[test]
fn own_and_other() {
    let names = |own: &str, chunk: &str| Some((own.to_owned(), chunk.to_owned()));
    assert_eq!(differs(ENGLISH, "Welche Temperatur darf der Motor nicht überschreiten?"), names("German", "English"));
    assert_eq!(differs(ENGLISH, "¿Quién debe aprobar las vacaciones?"), names("Spanish", "English"));
    assert_eq!(differs(GERMAN, "Who has to approve the holiday request of an employee?"), names("English", "German"));
    assert_eq!(differs(ENGLISH, "Сколько длится гарантия на устройство?"), names("Cyrillic", "Latin"));
    assert_eq!(differs(ENGLISH, "保証期間はどのくらいですか?"), names("Mandarin", "Latin"));
    for own in ["How long does the warranty of the device last?", "Is the warranty lost?", "SELECT * FROM t", "?", ""] {
        assert_eq!(differs(ENGLISH, own), None, "{own}");
    }
    assert_eq!(differs(GERMAN, "Wie lange gilt die Garantie?"), None);
    assert_eq!(differs("設備の保証期間は二年です", "保証はいつまでですか?"), None);
    assert_eq!(differs("", "How long?"), None);
}
