//! JSON Schema, reduced to the keywords that the schema of events uses; any other keyword panics.
//! It is stricter than the standard in one point: a field without a description is an error.

use serde_json::Value;

/// A schema with its definitions.
pub(crate) struct Schema(Value);

impl Schema {
    /// Parses a schema.
    #[track_caller]
    pub(crate) fn new(text: &str) -> Self {
        Self(serde_json::from_str(text).expect("a schema"))
    }

    /// Returns the titles of the alternatives.
    pub(crate) fn titles(&self) -> Vec<String> {
        let forms = self.0["oneOf"].as_array().expect("forms");
        let titles = forms.iter().map(|form| form["title"].as_str());
        titles
            .map(|title| title.expect("a title").to_owned())
            .collect()
    }

    /// Checks a value; the error describes the first violation.
    pub(crate) fn check(&self, value: &Value) -> Result<(), String> {
        self.check_against(&self.0, value)
    }

    fn check_against(&self, schema: &Value, value: &Value) -> Result<(), String> {
        for (word, rule) in schema.as_object().expect("an object") {
            let is_kept = match word.as_str() {
                "$schema" | "$defs" | "title" | "description" | "required" => true,
                "$ref" => {
                    let place = rule.as_str().and_then(|place| place.strip_prefix('#'));
                    let definition = self
                        .0
                        .pointer(place.expect("a place"))
                        .expect("a definition");
                    self.check_against(definition, value)?;
                    true
                }
                "const" => value == rule,
                "enum" => rule.as_array().expect("values").contains(value),
                "minimum" => value.as_f64() >= rule.as_f64(),
                "type" => has_type(value, rule.as_str().expect("a type")),
                "format" => is_time(value),
                "contentEncoding" => hex::decode(value.as_str().unwrap_or("x")).is_ok(),
                "properties" => {
                    self.check_object(schema, value)?;
                    true
                }
                "oneOf" => {
                    self.check_forms(rule, value)?;
                    true
                }
                word => panic!("'{word}' is not known here"),
            };
            if !is_kept {
                return Err(format!("{value} is not {word} {rule}"));
            }
        }
        Ok(())
    }

    fn check_object(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let fields = value.as_object().ok_or(format!("{value} is no object"))?;
        for (name, field) in fields {
            let rule = &schema["properties"][name];
            if rule.is_null() {
                return Err(format!("{name} is not described"));
            }
            let checked = self.check_against(rule, field);
            checked.map_err(|reason| format!("{name}: {reason}"))?;
        }
        for name in schema["required"].as_array().into_iter().flatten() {
            if !fields.contains_key(name.as_str().expect("a name")) {
                return Err(format!("{name} is missing"));
            }
        }
        Ok(())
    }

    fn check_forms(&self, forms: &Value, value: &Value) -> Result<(), String> {
        let forms = forms.as_array().expect("forms").iter();
        let results: Vec<_> = forms.map(|form| self.check_against(form, value)).collect();
        match results.iter().filter(|result| result.is_ok()).count() {
            1 => Ok(()),
            count => Err(format!("{value} has {count} of the forms: {results:?}")),
        }
    }
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "object" => value.is_object(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        name => panic!("type '{name}' is not known here"),
    }
}

fn is_time(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.len() == 27 && humantime::parse_rfc3339(text).is_ok()
}
