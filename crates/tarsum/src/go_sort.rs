//! The sort of Go 1.3 and 1.4, comparison by comparison.
//!
//! It is here for an order that is none (see [`order`](super::order)): with such a one the outcome
//! depends on which elements are compared and when they are swapped, so nothing below may be
//! "improved". It is Bentley and McIlroy's quicksort with the equal elements at both ends, falling
//! back to heapsort at a depth, and to insertion sort below eight elements.

/// Sorts by `is_less`, even if that is no order.
pub(super) fn sort<T>(items: &mut [T], mut is_less: impl FnMut(&T, &T) -> bool) {
    let depth = 2 * (usize::BITS - items.len().leading_zeros());
    quick_sort(items, &mut is_less, depth);
}

fn quick_sort<T>(mut items: &mut [T], is_less: &mut impl FnMut(&T, &T) -> bool, mut depth: u32) {
    while items.len() > 7 {
        if depth == 0 {
            return heap_sort(items, is_less);
        }
        depth -= 1;
        let (less, greater) = partition(items, is_less);
        let (rest, right) = items.split_at_mut(greater);
        let left = &mut rest[..less];
        // Into the shorter side, so that the stack stays shallow.
        if left.len() < right.len() {
            quick_sort(left, is_less, depth);
            items = right;
        } else {
            quick_sort(right, is_less, depth);
            items = left;
        }
    }
    insertion_sort(items, is_less);
}

fn insertion_sort<T>(items: &mut [T], is_less: &mut impl FnMut(&T, &T) -> bool) {
    for begin in 1..items.len() {
        let mut at = begin;
        while at > 0 && is_less(&items[at], &items[at - 1]) {
            items.swap(at, at - 1);
            at -= 1;
        }
    }
}

/// Brings the median of three to `to`.
fn median<T>(
    items: &mut [T],
    is_less: &mut impl FnMut(&T, &T) -> bool,
    [to, first, last]: [usize; 3],
) {
    for (a, b) in [(to, first), (last, to), (to, first)] {
        if is_less(&items[a], &items[b]) {
            items.swap(a, b);
        }
    }
}

/// Moves what is less than a pivot to the front and what is greater to the back: where the first
/// ends, and where the second begins.
fn partition<T>(items: &mut [T], is_less: &mut impl FnMut(&T, &T) -> bool) -> (usize, usize) {
    let len = items.len();
    let (middle, last) = (len / 2, len - 1);
    if len > 40 {
        let step = len / 8;
        median(items, is_less, [0, step, 2 * step]);
        median(items, is_less, [middle, middle - step, middle + step]);
        median(items, is_less, [last, last - step, last - 2 * step]);
    }
    median(items, is_less, [0, middle, last]);

    // The pivot lies at 0. Up to `equal_left` there are its equals, up to `left` lesser ones; from
    // `equal_right` on its equals, from `right` on greater ones; between `left` and `right` is what
    // has not been seen.
    let (mut equal_left, mut left, mut right, mut equal_right) = (1, 1, len, len);
    while left < right {
        if is_less(&items[left], &items[0]) {
            left += 1;
        } else if !is_less(&items[0], &items[left]) {
            items.swap(equal_left, left);
            equal_left += 1;
            left += 1;
        } else if is_less(&items[0], &items[right - 1]) {
            right -= 1;
        } else if !is_less(&items[right - 1], &items[0]) {
            right -= 1;
            equal_right -= 1;
            items.swap(right, equal_right);
        } else {
            right -= 1;
            items.swap(left, right);
            left += 1;
        }
    }

    // The equals to the middle.
    let lesser = left - equal_left;
    swap_ranges(items, 0, left, lesser.min(equal_left));
    let greater = equal_right - right;
    swap_ranges(items, right, len, greater.min(len - equal_right));
    (lesser, len - greater)
}

/// Swaps `len` items from `begin` on with those before `end`.
fn swap_ranges<T>(items: &mut [T], begin: usize, end: usize, len: usize) {
    for at in 0..len {
        items.swap(begin + at, end - len + at);
    }
}

fn heap_sort<T>(items: &mut [T], is_less: &mut impl FnMut(&T, &T) -> bool) {
    let len = items.len();
    for root in (0..=len.saturating_sub(1) / 2).rev() {
        sift_down(items, is_less, root);
    }
    for end in (0..len).rev() {
        items.swap(0, end);
        sift_down(&mut items[..end], is_less, 0);
    }
}

fn sift_down<T>(items: &mut [T], is_less: &mut impl FnMut(&T, &T) -> bool, mut root: usize) {
    loop {
        let mut child = 2 * root + 1;
        if child >= items.len() {
            return;
        }
        if child + 1 < items.len() && is_less(&items[child], &items[child + 1]) {
            child += 1;
        }
        if !is_less(&items[root], &items[child]) {
            return;
        }
        items.swap(root, child);
        root = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Sorts so many items of so many names, as archives are, and gives their positions.
    fn sorted(
        len: u32,
        names: u32,
        sort: impl Fn(&mut [[u32; 3]], fn(&[u32; 3], &[u32; 3]) -> bool),
    ) -> Vec<u32> {
        let mut random = len * 31 + names;
        let mut next = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random
        };
        let item = |position| [(next() >> 16) % names, (next() >> 8) % 65_536, position];
        let mut items: Vec<_> = (0..len).map(item).collect();
        sort(&mut items, |a, b| {
            if a[0] == b[0] {
                a[2] < b[2]
            } else {
                a[1] < b[1]
            }
        });
        items.into_iter().map(|[_, _, position]| position).collect()
    }

    /// FNV-1a over many of them.
    fn fingerprint(sort: impl Fn(&mut [[u32; 3]], fn(&[u32; 3], &[u32; 3]) -> bool)) -> u64 {
        let cases = (0..=300).flat_map(|len| [1, 3, 5, 7, 9].map(|names| (len, names)));
        let positions = cases.flat_map(|(len, names)| sorted(len, names, &sort));
        positions.fold(14_695_981_039_346_656_037, |hash: u64, position| {
            (hash ^ u64::from(position)).wrapping_mul(1_099_511_628_211)
        })
    }

    /// The values are from Go's own text of that time, run on the same items.
    #[test]
    fn what_is_no_order_comes_out_as_from_go() {
        assert_eq!(
            sorted(20, 5, |items, is_less| sort(items, is_less)),
            [
                7, 14, 15, 16, 10, 3, 18, 1, 4, 11, 12, 19, 6, 5, 8, 13, 0, 2, 17, 9
            ]
        );
        assert_eq!(
            fingerprint(|items, is_less| sort(items, is_less)),
            0x2989e3b87ad33aad
        );
        let heap_sorted = fingerprint(|items, mut is_less| heap_sort(items, &mut is_less));
        assert_eq!(heap_sorted, 0x86c5472636354d53);
    }

    proptest! {
        /// With an order that is one, it sorts like any other.
        #[test]
        fn it_sorts(mut items: Vec<u8>) {
            let mut want = items.clone();
            want.sort_unstable();
            sort(&mut items, |a, b| a < b);
            prop_assert_eq!(items, want);
        }

        #[test]
        fn so_does_the_heap_that_it_falls_back_to(mut items: Vec<u8>) {
            let mut want = items.clone();
            want.sort_unstable();
            heap_sort(&mut items, &mut |a, b| a < b);
            prop_assert_eq!(items, want);
        }

        /// All elements are kept, for any comparison.
        #[test]
        fn nothing_is_lost(answers: Vec<bool>, len in 0usize..300) {
            let mut items: Vec<usize> = (0..len).collect();
            let mut answers = answers.iter().copied().cycle();
            sort(&mut items, |_, _| answers.next().unwrap_or(true));
            items.sort_unstable();
            prop_assert!(items.into_iter().eq(0..len));
        }
    }
}
