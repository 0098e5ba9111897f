//! The contract of [`LayerService`](s3layers::LayerService) as a suite of tests, with a named case per promise.
//!
//! [`suite!`] stamps the whole suite over one implementation, as a module of tests:
//!
//! ```
//! use std::sync::Arc;
//! use s3layers::MemoryLayerService;
//! use s3layers_conformance::{self as conformance, Subject};
//!
//! async fn memory() -> Subject {
//!     let service = Arc::new(MemoryLayerService::new());
//!     Subject { here: service.clone(), elsewhere: service, part_size: 64 * 1024 }
//! }
//!
//! conformance::suite!(memory, memory());
//! ```
//!
//! The tests are then called `memory::resume::closed_upload_resumes_elsewhere_at_every_boundary`
//! and the like. The expression is awaited once for each case, and should give storage that no
//! other case uses, such as a fresh prefix: cases run at the same time, and some use the same
//! bytes, the empty layer above all. The crate that stamps needs `tokio` among its dependencies,
//! with the features `macros` and `rt-multi-thread`.
//!
//! A case relies on the text of the contract only:
//!
//! 1. A case sees an implementation only through [`LayerService`](s3layers::LayerService), [`Layer`](s3layers::Layer) and
//!    [`LayerUpload`](s3layers::LayerUpload). Where the contract leaves a choice, the case accepts
//!    each of them: how many bytes that were not closed survive a drop, or which call returns the
//!    conflict to a replaced writer, as long as nothing is acknowledged to it before.
//! 2. Bytes encode their offset and differ from case to case, so that a shifted or foreign read is
//!    reported as such.
//! 3. Everything random comes from the name of the case. A failure can be repeated.
//!
//! A new case is a function in the file of its topic, and its name in the list below. It then runs
//! on every store at once; a function that is not in the list is dead code, and clippy says so.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a case fails by panicking"
)]

use self::case::Case;
pub use self::subject::{NamedCase, Subject};

mod archive;
mod bytes;
mod case;
mod subject;

/// Declares the topics and registers their cases: makes of each case a function over the
/// `Subject` that the module has, and of them all the macro `suite!`.
macro_rules! cases {
    // `$d` is a dollar sign, which the macro that is defined here needs to have parameters.
    ($d:tt $exported:ident in $($path:ident)::+; $($topic:ident: [$($case:ident),* $(,)?],)*) => {
        $(mod $topic;)*

        #[doc(hidden)]
        pub mod run {
            $(pub mod $topic {
                $(pub async fn $case(subject: super::super::Subject) {
                    let case = super::super::Case::new(stringify!($case), subject);
                    super::super::$topic::$case(case).await;
                })*
            })*
        }

        /// The whole suite as a list, for a harness that finds out when it runs what to test: a
        /// server that the environment names, for instance. [`suite!`] is simpler elsewhere.
        pub fn cases() -> Vec<NamedCase> {
            vec![$($(NamedCase {
                name: concat!(stringify!($topic), "::", stringify!($case)),
                run: |subject| Box::pin(run::$topic::$case(subject)),
            },)*)*]
        }

        /// Stamps a module of tests: the whole suite over one implementation.
        ///
        /// `suite!(name, subject)`: the name of the module, and an expression that can be awaited
        /// for a `Subject` of the suite. It is evaluated again for each case.
        #[doc(hidden)]
        #[macro_export]
        macro_rules! $exported {
            ($d name:ident, $d subject:expr) => {
                mod $d name {
                    #[allow(unused_imports)]
                    use super::*;
                    use $d crate::$($path)::+ as suite_cases;
                    $(mod $topic {
                        #[allow(unused_imports)]
                        use super::*;
                        $(
                            #[::tokio::test(flavor = "multi_thread", worker_threads = 2)]
                            async fn $case() {
                                let subject = ($d subject).await;
                                super::suite_cases::$topic::$case(subject).await;
                            }
                        )*
                    })*
                }
            };
        }

        #[doc(inline)]
        pub use $exported as suite;
    };
}

pub mod repositories;

cases! { $ __conformance_suite in run;
    exists: [
        unknown_layer_does_not_exist,
        fetching_an_unknown_layer_is_layer_unknown,
        a_finished_layer_is_found_here_and_elsewhere,
        unfinished_upload_is_not_a_layer,
        a_layer_is_found_by_both_digests_after_a_sha512_finish,
        a_layer_is_found_by_its_declared_sha512,
        a_declared_sha256_finished_by_sha512_is_found_by_both,
    ],
    upload: [
        a_new_upload_is_empty_and_knows_its_names,
        a_layer_of_no_bytes_comes_back,
        a_layer_of_one_byte_comes_back,
        a_layer_of_one_byte_less_than_a_part_comes_back,
        a_layer_of_exactly_one_part_comes_back,
        a_layer_of_one_byte_more_than_a_part_comes_back,
        a_layer_of_exactly_two_parts_comes_back,
        several_parts_and_an_odd_tail_come_back,
        many_tiny_writes_are_one_layer,
        one_huge_piece_is_one_layer,
        both_ways_of_writing_can_be_mixed,
        a_reader_can_be_copied_in,
        every_accepted_byte_is_counted_at_once,
        an_empty_write_changes_nothing,
        shutting_down_closes_the_upload,
        push_and_pull_return_the_same_bytes,
        uploads_of_one_repository_do_not_mix,
    ],
    finish: [
        finish_returns_the_layer_and_its_creation_time,
        layer_has_the_same_properties_in_every_process,
        a_wrong_size_is_invalid_length_and_the_right_one_still_finishes,
        a_wrong_digest_is_invalid_checksum_and_the_right_one_still_finishes,
        an_upload_takes_more_bytes_after_a_failed_finish,
        the_length_is_checked_before_the_digest,
        an_empty_upload_with_another_digest_is_invalid_checksum,
        a_wrong_sha512_is_invalid_checksum_and_the_sha256_still_finishes,
        an_upload_whose_sha512_was_wrong_is_finished_elsewhere,
        an_upload_whose_sha512_was_wrong_can_be_cancelled,
        a_failed_finish_publishes_nothing_and_keeps_what_was_closed,
        a_declared_digest_is_verified,
        an_id_given_at_the_resume_is_verified,
        a_declared_sha512_is_verified,
        a_tar_sum_of_an_unsupported_version_is_refused_and_can_be_cancelled,
        a_tar_sum_is_checked_last,
        a_finished_upload_is_unknown,
        a_finished_handle_is_closed,
        an_upload_is_finished_elsewhere_without_another_byte,
    ],
    duplicates: [
        the_same_bytes_twice_are_the_first_layer,
        the_same_bytes_in_another_repository_are_the_first_layer,
        the_same_bytes_under_a_new_digest_are_found_by_it,
        the_same_bytes_finished_at_once_are_one_layer,
    ],
    cancel: [
        a_cancelled_upload_is_unknown,
        an_upload_of_no_bytes_can_be_cancelled,
        an_upload_of_several_parts_can_be_cancelled,
        the_same_bytes_can_be_uploaded_after_a_cancel,
        a_cancelled_handle_is_closed,
        an_upload_can_be_cancelled_from_another_handle,
        a_second_cancel_is_upload_unknown,
        cancelling_a_finished_upload_leaves_the_layer_alone,
        cancelling_leaves_other_uploads_alone,
    ],
    resume: [
        upload_that_never_began_is_unknown,
        a_resumed_upload_has_the_digest_of_its_bytes_if_it_says_one,
        an_upload_of_another_repository_is_unknown,
        an_upload_of_another_declared_id_is_unknown,
        an_upload_is_resumed_with_its_declared_id_or_without,
        closed_upload_resumes_elsewhere_at_every_boundary,
        dropped_upload_resumes_elsewhere_at_every_boundary,
        closed_bytes_survive_a_later_drop,
        a_chain_of_many_resumes_is_one_layer,
        a_chain_of_whole_parts_is_one_layer,
        idle_handle_changes_nothing,
        a_closed_handle_is_closed,
        every_handle_reports_the_offset,
    ],
    duel: [
        status_requests_do_not_disturb_the_writer,
        closing_an_idle_handle_does_not_disturb_the_writer,
        the_first_byte_through_a_resumed_handle_makes_it_the_owner,
        replaced_writer_fails_before_anything_is_acknowledged,
        the_older_writer_cannot_finish,
        the_older_writer_of_several_parts_loses,
        last_writer_of_several_resumed_handles_wins,
        a_handle_that_missed_acknowledged_bytes_cannot_write_over_them,
        finishing_through_a_resumed_handle_makes_it_the_owner,
        finishing_what_another_handle_finished_is_refused,
        concurrent_finishes_publish_one_layer,
        one_of_a_concurrent_finish_and_cancel_succeeds,
        bytes_of_concurrent_writers_never_mix,
    ],
    dropped: [
        abandoned_write_counts_the_bytes_that_it_accepted,
        abandoned_close_keeps_the_bytes_closed_before,
        abandoned_finish_is_completed_elsewhere,
    ],
    claims: [
        a_second_upload_of_a_declared_id_is_in_progress_and_can_be_resumed,
        a_declared_id_that_is_stored_is_layer_exists,
        uploads_that_declare_nothing_claim_nothing,
        another_repository_or_another_id_is_free,
        claim_outlives_a_close_and_a_drop,
        a_claim_outlives_a_failed_finish,
        a_claim_ends_with_a_cancel,
        a_claim_ends_with_a_finish,
        one_of_many_concurrent_claims_wins,
        bytes_published_without_a_claim_do_not_stop_the_claimant,
    ],
    tar_sum: [
        a_layer_is_found_by_the_tar_sum_it_was_declared_with,
        a_tar_sum_can_be_finished_by_sha512,
        a_declared_tar_sum_that_is_stored_is_layer_exists,
        a_tar_sum_is_claimed_until_the_upload_ends,
        other_tar_sum_is_invalid_and_the_upload_continues,
        archive_with_another_tar_sum_can_be_finished_without_it_or_cancelled,
        broken_archive_is_reported_with_its_position,
        a_tar_sum_of_version_0_is_refused_though_it_is_right,
        a_wrong_tar_sum_is_checked_after_length_and_digest,
        an_upload_that_is_resumed_elsewhere_is_verified,
        a_tar_sum_given_at_the_resume_is_verified,
        archives_with_one_tar_sum_are_both_kept,
        a_compressed_archive_has_the_tar_sum_of_the_archive,
        a_stored_layer_is_found_by_a_tar_sum_that_comes_later,
        no_bytes_and_zeros_are_the_empty_archive,
    ],
    read: [
        a_layer_read_in_pieces_is_the_same,
        a_second_full_read_is_identical,
        random_seeks_read_the_bytes_that_are_there,
        seek_returns_the_new_position,
        past_the_end_is_the_end_of_file,
        a_negative_position_is_an_error_and_moves_nothing,
        a_layer_of_no_bytes_is_at_its_end,
        stream_returns_the_rest_from_the_middle,
        a_stream_from_the_end_or_past_it_is_empty,
        a_stream_of_a_part_ends_with_it,
        a_stream_of_parts_has_each_part_and_nothing_else,
        two_readers_do_not_disturb_each_other,
        layer_can_be_closed_after_a_partial_read,
        a_presigned_url_is_http,
    ],
}
