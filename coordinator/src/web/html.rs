//! Text into HTML. A template is a constant of ours; whatever is put into it is escaped, unless it is [`Html`] already.
//! So a job's name that holds a tag shows as that name, wherever it appears.

use std::fmt::{self, Write as _};

/// Markup that may be sent as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Html(String);

impl Html {
    /// Appends another piece.
    pub(super) fn push(&mut self, piece: Html) {
        self.0.push_str(&piece.0);
    }

    /// The document.
    pub(super) fn into_string(self) -> String {
        self.0
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Html> for Html {
    fn from_iter<I: IntoIterator<Item = Html>>(pieces: I) -> Self {
        let mut all = Html::default();
        pieces.into_iter().for_each(|piece| all.push(piece));
        all
    }
}

/// Something that can stand in a template's place.
pub(super) trait Part {
    /// Appends it, escaped where it is text.
    fn put(&self, to: &mut String);
}

impl Part for Html {
    fn put(&self, to: &mut String) {
        to.push_str(&self.0);
    }
}

/// Everything else that can be shown is text.
macro_rules! text {
    ($($kind:ty),*) => {
        $(impl Part for $kind {
            fn put(&self, to: &mut String) {
                // Writing to a string does not fail.
                let _infallible = write!(Escaping(to), "{self}");
            }
        })*
    };
}

text!(&str, String, u32, u64, usize, i64, f64);

impl<T: Part> Part for Option<T> {
    fn put(&self, to: &mut String) {
        if let Some(part) = self {
            part.put(to);
        }
    }
}

/// Fills the places `{}` of a template, in order. Attribute values in templates stand in double quotes.
///
/// Places and parts must be equally many. Tests stop where they are not; a coordinator shows what there is, since a page
/// must not be able to end it.
pub(super) fn html(template: &'static str, parts: &[&dyn Part]) -> Html {
    debug_assert_eq!(template.matches("{}").count(), parts.len(), "places and parts of {template}");
    let mut filled = String::with_capacity(template.len() + parts.len() * 16);
    let mut parts = parts.iter();
    for (at, piece) in template.split("{}").enumerate() {
        if at > 0
            && let Some(part) = parts.next()
        {
            part.put(&mut filled);
        }
        filled.push_str(piece);
    }
    Html(filled)
}

struct Escaping<'a>(&'a mut String);

impl fmt::Write for Escaping<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        escape(text, self.0);
        Ok(())
    }
}

fn escape(text: &str, to: &mut String) {
    for character in text.chars() {
        match character {
            '&' => to.push_str("&amp;"),
            '<' => to.push_str("&lt;"),
            '>' => to.push_str("&gt;"),
            '"' => to.push_str("&quot;"),
            '\'' => to.push_str("&#39;"),
            // Control characters have no place in HTML, and those that turn the direction of writing could make one
            // name look like another.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => to.push('\u{fffd}'),
            control if control.is_control() && control != '\n' => to.push('\u{fffd}'),
            other => to.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_markup_is_not() {
        let inner = html("<b>{}</b>", &[&"<i>&\"'"]);
        let outer = html("<p title=\"{}\">{} {}</p>", &[&"a\" onload=\"x", &inner, &7_u32]);
        assert_eq!(outer.into_string(), "<p title=\"a&quot; onload=&quot;x\"><b>&lt;i&gt;&amp;&quot;&#39;</b> 7</p>");
    }

    #[test]
    fn what_would_deceive_the_eye_is_shown_as_unknown() {
        assert_eq!(html("{}", &[&"a\u{202e}b\u{0}c\n"]).into_string(), "a\u{fffd}b\u{fffd}c\n");
    }

    #[test]
    fn places_in_parts_are_text() {
        assert_eq!(html("{}{}", &[&"{}", &"x"]).into_string(), "{}x");
    }

    /// Without debug assertions the part too many is left out.
    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "places and parts")]
    fn a_part_too_many_is_our_mistake() {
        html("{}", &[&1_u32, &2_u32]);
    }
}
