//! The date a template may ask for. This crate has no clock: the caller gives it.

use minijinja::{Error, ErrorKind};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

/// A day of the Gregorian calendar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Date {
    year: i32,
    month: u8,
    day: u8,
}

impl Date {
    /// A day; `None` where the calendar has none such. `month` is 1 to 12, `day` 1 to 31, `year` 1 to 9999.
    pub fn new(year: i32, month: u8, day: u8) -> Option<Self> {
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let days = match month {
            2 if leap => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
            _ => return None,
        };
        ((1..=9999).contains(&year) && (1..=days).contains(&day)).then_some(Self { year, month, day })
    }

    /// The directives of Python's `strftime` that concern the day, in English.
    pub(super) fn strftime(self, format: &str) -> Result<String, Error> {
        let Self { year, month, day } = self;
        let month_name = MONTHS[usize::from(month) - 1];
        let day_name = DAYS[self.weekday()];
        let mut text = String::new();
        let mut characters = format.chars();
        while let Some(character) = characters.next() {
            if character != '%' {
                text.push(character);
                continue;
            }
            let directive = match characters.next() {
                Some('-') => format!("-{}", characters.next().unwrap_or_default()),
                directive => directive.map(String::from).unwrap_or_default(),
            };
            text.push_str(&match directive.as_str() {
                "Y" => year.to_string(),
                "y" => format!("{:02}", year % 100),
                "m" => format!("{month:02}"),
                "-m" => month.to_string(),
                "d" => format!("{day:02}"),
                "-d" => day.to_string(),
                "e" => format!("{day:2}"),
                "B" => month_name.to_owned(),
                "b" | "h" => month_name[..3].to_owned(),
                "A" => day_name.to_owned(),
                "a" => day_name[..3].to_owned(),
                "F" => format!("{year}-{month:02}-{day:02}"),
                "%" => "%".to_owned(),
                other => {
                    let problem = format!("strftime_now: directive %{other} is not known, or asks for the time of day");
                    return Err(Error::new(ErrorKind::InvalidOperation, problem));
                }
            });
        }
        Ok(text)
    }

    /// Days since Sunday, by Sakamoto's method.
    fn weekday(self) -> usize {
        const OFFSETS: [i32; 12] = [0, 3, 2, 5, 0, 3, 5, 1, 4, 6, 2, 4];
        let year = if self.month < 3 { self.year - 1 } else { self.year };
        let offset = OFFSETS[usize::from(self.month) - 1];
        (year + year / 4 - year / 100 + year / 400 + offset + i32::from(self.day)).rem_euclid(7) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_the_calendar() {
        assert!(Date::new(2024, 2, 29).is_some());
        assert!(Date::new(1900, 2, 29).is_none());
        assert!(Date::new(2000, 2, 29).is_some());
        for (year, month, day) in [(2024, 4, 31), (2024, 13, 1), (2024, 0, 1), (2024, 1, 0), (0, 1, 1)] {
            assert_eq!(Date::new(year, month, day), None);
        }
    }

    #[test]
    fn formats_as_python() -> Result<(), Box<dyn std::error::Error>> {
        // Expected values are those of datetime.date(...).strftime.
        let date = Date::new(2024, 7, 6).ok_or("a date")?;
        assert_eq!(date.strftime("%d %b %Y, %A %a, %-d.%-m.%y %e %B %F 100%%")?, {
            "06 Jul 2024, Saturday Sat, 6.7.24  6 July 2024-07-06 100%"
        });
        assert_eq!(Date::new(2026, 1, 1).ok_or("a date")?.strftime("%A")?, "Thursday");
        assert_eq!(Date::new(2000, 2, 29).ok_or("a date")?.strftime("%A")?, "Tuesday");
        assert!(date.strftime("%H:%M").is_err());
        assert!(date.strftime("100%").is_err());
        Ok(())
    }
}
