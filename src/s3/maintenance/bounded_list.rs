//! A list of the first of many things, and the number of the others.

#[derive(Debug)]
pub(super) struct BoundedList<T> {
    pub(super) first: Vec<T>,
    /// How many more there were.
    pub(super) more: u64,
    limit: usize,
}

impl<T> BoundedList<T> {
    pub(super) fn new(limit: usize) -> Self {
        BoundedList {
            first: Vec::new(),
            more: 0,
            limit,
        }
    }

    pub(super) fn push(&mut self, thing: T) {
        if self.first.len() < self.limit {
            self.first.push(thing);
        } else {
            self.more += 1;
        }
    }

    /// How many there are in all.
    pub(super) fn len(&self) -> u64 {
        self.first.len() as u64 + self.more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_things_are_kept_and_the_others_counted() {
        let mut list = BoundedList::new(3);
        (0..5).for_each(|number| list.push(number));
        assert_eq!((list.len(), list.more, list.first), (5, 2, vec![0, 1, 2]));
    }
}
