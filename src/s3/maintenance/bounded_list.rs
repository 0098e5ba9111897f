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
        push_bounded(&mut self.first, &mut self.more, self.limit, thing);
    }

    /// How many there are in all.
    pub(super) fn len(&self) -> u64 {
        self.first.len() as u64 + self.more
    }
}

/// Adds a thing to the first ones, of which there are at most `limit`, or counts it.
pub(super) fn push_bounded<T>(first: &mut Vec<T>, more: &mut u64, limit: usize, thing: T) {
    if first.len() < limit {
        first.push(thing);
    } else {
        *more += 1;
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
