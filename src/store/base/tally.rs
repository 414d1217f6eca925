//! Sums that are added up row by row. A `GROUP BY` sorts all of its rows first, in memory, which is too much where they are
//! a backlog or a month.

/// Names that many rows repeat, each kept once and known by its place.
#[derive(Default)]
pub(crate) struct Names {
    names: Vec<String>,
    last: usize,
}

impl Names {
    /// Returns the place of a name. They are few, and mostly the one before's.
    pub(crate) fn place(&mut self, name: &str) -> usize {
        if self.names.get(self.last).is_none_or(|last| last != name) {
            self.last = self.names.iter().position(|known| known == name).unwrap_or_else(|| {
                self.names.push(name.to_owned());
                self.names.len() - 1
            });
        }
        self.last
    }

    /// Returns the names by their places.
    pub(crate) fn into_vec(self) -> Vec<String> {
        self.names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_keeps_its_place() {
        let mut names = Names::default();
        let places = ["a", "a", "b", "a", "c", "b"].map(|name| names.place(name));
        assert_eq!(places, [0, 0, 1, 0, 2, 1]);
        assert_eq!(names.into_vec(), ["a", "b", "c"]);
    }
}
