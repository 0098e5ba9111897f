//! A file with every setting in it, as a comment that says what it is.

use super::ALL;

/// The file.
pub(crate) fn text() -> String {
    let mut text = String::from(
        "# Settings of s3layers. Each is what it is without this file, or an example where it has\n\
         # no default. A flag goes before the environment, and that before this file.\n\
         # Keys do not belong here: they come from where every AWS tool finds them.\n",
    );
    let mut table = "";
    for setting in ALL {
        let (here, name) = setting.name.split_once('.').unwrap_or(("", setting.name));
        if here != table {
            text.push_str(&format!("\n[{here}]\n"));
            table = here;
        }
        let value = (setting.default)().unwrap_or_else(|| setting.sample.to_owned());
        let value = setting.in_file(&value);
        let about = setting.about;
        text.push_str(&format!("\n# {about}\n#{name} = {value}\n"));
    }
    text
}
