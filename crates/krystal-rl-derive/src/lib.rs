#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

use proc_macro2::TokenStream;
use quote::quote;
use syn::{Data, DeriveInput, Error, Field, Fields, LitStr, Result, parse_macro_input};

/// Implements `krystal_rl::Observe` for a struct with named fields, each of which is `krystal_rl::Observable`.
///
/// `#[observe(skip)]` leaves a field out; `#[observe(rename = "name")]` gives it another name.
#[proc_macro_derive(Observe, attributes(observe))]
pub fn derive_observe(input: proc_macro::TokenStream) -> proc_macro::TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    expand(&input).unwrap_or_else(Error::into_compile_error).into()
}

fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let refuse = || Error::new_spanned(&input.ident, "`Observe` can be derived for structs with named fields");
    let Data::Struct(data) = &input.data else { return Err(refuse()) };
    let Fields::Named(fields) = &data.fields else { return Err(refuse()) };
    let mut calls = Vec::new();
    for field in &fields.named {
        calls.extend(observe_field(field)?);
    }
    let name = &input.ident;
    let (generics, arguments, bounds) = input.generics.split_for_impl();
    Ok(quote! {
        impl #generics ::krystal_rl::Observe for #name #arguments #bounds {
            fn observe(
                &self,
                seen: &mut ::krystal_rl::Observation<'_>,
            ) -> ::core::result::Result<(), ::krystal_rl::Error> {
                #(#calls)*
                ::core::result::Result::Ok(())
            }
        }
    })
}

/// The call that observes a field; none for one that is skipped.
fn observe_field(field: &Field) -> Result<Option<TokenStream>> {
    let Some(ident) = &field.ident else { return Ok(None) };
    let mut name = ident.to_string().trim_start_matches("r#").to_owned();
    let mut skip = false;
    for attribute in field.attrs.iter().filter(|attribute| attribute.path().is_ident("observe")) {
        attribute.parse_nested_meta(|meta| {
            if meta.path.is_ident("skip") {
                skip = true;
                Ok(())
            } else if meta.path.is_ident("rename") {
                name = meta.value()?.parse::<LitStr>()?.value();
                Ok(())
            } else {
                Err(meta.error("expected `skip` or `rename = \"name\"`"))
            }
        })?;
    }
    Ok((!skip).then(|| quote! { ::krystal_rl::Observable::observe_as(&self.#ident, #name, seen)?; }))
}

#[cfg(test)]
mod tests {
    use syn::parse_quote;

    use super::*;

    #[test]
    fn what_has_no_named_fields_is_refused() {
        for input in [parse_quote! { struct Pair(f64, f64); }, parse_quote! { enum Either { A { x: f64 } } }] {
            let error = expand(&input).unwrap_err();
            assert_eq!(error.to_string(), "`Observe` can be derived for structs with named fields");
        }
    }

    #[test]
    fn attributes_that_are_unknown_are_refused() {
        let input = parse_quote! { struct One { #[observe(scale = 2)] x: f64 } };
        assert_eq!(expand(&input).unwrap_err().to_string(), "expected `skip` or `rename = \"name\"`");
    }

    #[test]
    fn fields_are_named_renamed_and_skipped() {
        let input = parse_quote! {
            struct Machine<T: Sensor> { load: f32, r#type: u8, #[observe(rename = "n")] night: bool, #[observe(skip)] sensor: T }
        };
        let found = expand(&input).unwrap().to_string();
        for part in ["self . load , \"load\"", "self . r#type , \"type\"", "self . night , \"n\"", "< T : Sensor >"] {
            assert!(found.contains(part), "{found}");
        }
        assert!(!found.contains("self . sensor"));
    }
}
