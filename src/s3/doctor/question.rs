//! What is asked, and what was found. One table.

/// What a group of questions is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// What the credentials may do.
    Permissions,
    /// Writes that depend on what is stored.
    ConditionalWrites,
    /// Reading and listing what was just written.
    Consistency,
    /// What the store verifies.
    Checksums,
    /// Multipart uploads.
    Parts,
    /// The clock, and what the store does by itself.
    Surroundings,
}

macro_rules! questions {
    ($($(#[$doc:meta])* $name:ident in $topic:ident, $id:literal, $text:literal;)*) => {
        /// Something that is asked of a store.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Question { $($(#[$doc])* $name,)* }

        impl Question {
            /// All of them, in the order in which they are told.
            pub const ALL: &'static [Question] = &[$(Question::$name,)*];

            /// A name for programs, which does not change.
            pub fn id(self) -> &'static str {
                match self { $(Question::$name => $id,)* }
            }

            /// What is asked, as a statement that may hold.
            pub fn text(self) -> &'static str {
                match self { $(Question::$name => $text,)* }
            }

            /// What it is about.
            pub fn topic(self) -> Topic {
                match self { $(Question::$name => Topic::$topic,)* }
            }
        }
    };
}

questions! {
    /// PutObject, CreateMultipartUpload, UploadPart, CompleteMultipartUpload.
    MayPut in Permissions, "may_put_object", "s3:PutObject";
    /// GetObject, HeadObject.
    MayGet in Permissions, "may_get_object", "s3:GetObject";
    /// DeleteObject, DeleteObjects.
    MayDelete in Permissions, "may_delete_object", "s3:DeleteObject";
    /// ListObjectsV2.
    MayList in Permissions, "may_list_bucket", "s3:ListBucket";
    /// AbortMultipartUpload.
    MayAbort in Permissions, "may_abort_multipart_upload", "s3:AbortMultipartUpload";
    /// ListParts.
    MayListParts in Permissions, "may_list_multipart_upload_parts", "s3:ListMultipartUploadParts";
    /// ListMultipartUploads.
    MayListUploads in Permissions, "may_list_bucket_multipart_uploads", "s3:ListBucketMultipartUploads";

    /// If-None-Match on a key that is free.
    CreateTaken in ConditionalWrites, "create_taken", "create where nothing is: taken";
    /// If-None-Match on a key that is taken.
    CreateRefused in ConditionalWrites, "create_refused", "create where something is: refused";
    /// If-Match with the right ETag.
    ReplaceTaken in ConditionalWrites, "replace_taken", "replace by the right ETag: taken";
    /// If-Match with another ETag.
    StaleRefused in ConditionalWrites, "stale_replace_refused", "replace by an old ETag: refused";
    /// If-Match on a key that is free.
    AbsentRefused in ConditionalWrites, "absent_replace_refused", "replace where nothing is: refused";
    /// Several If-None-Match at once.
    CreateRace in ConditionalWrites, "create_race", "creates at once: exactly one wins";
    /// Several If-Match at once.
    ReplaceRace in ConditionalWrites, "replace_race", "replaces at once: exactly one wins";

    /// GET of a key that was free a moment ago.
    ReadAfterWrite in Consistency, "read_after_write", "what was written is read";
    /// GET of a key whose object was replaced.
    ReadAfterReplace in Consistency, "read_after_replace", "what replaced it is read";
    /// GET of a key whose object was deleted.
    ReadAfterDelete in Consistency, "read_after_delete", "what was deleted is gone";
    /// A list of what was just written.
    ListAfterWrite in Consistency, "list_after_write", "what was written is listed at once";
    /// A list without what was just deleted.
    ListAfterDelete in Consistency, "list_after_delete", "what was deleted is not listed";
    /// Lists are ordered by the bytes of the keys.
    ListOrder in Consistency, "list_order", "lists are in the order of bytes";
    /// Pages by continuation and by start-after.
    ListPages in Consistency, "list_pages", "pages leave nothing out";
    /// Common prefixes.
    ListLevels in Consistency, "list_levels", "a delimiter groups what is below it";
    /// A range of an object.
    RangeRead in Consistency, "range_read", "a range is what was asked for";
    /// A range of an object that was replaced, with If-Match.
    ChangedRefused in Consistency, "changed_range_refused", "a range of what was replaced: refused";
    /// DELETE of an object that was replaced, with If-Match.
    StaleDeleteRefused in Consistency, "stale_delete_refused", "delete by an old ETag: refused";
    /// DeleteObjects.
    BatchDelete in Consistency, "batch_delete", "many are deleted by one request";

    /// PutObject with a wrong CRC64NVME.
    ObjectChecksum in Checksums, "object_checksum", "an object that differs: refused";
    /// UploadPart with a wrong CRC64NVME.
    PartChecksum in Checksums, "part_checksum", "a part that differs: refused";
    /// Complete with a wrong full-object CRC64NVME.
    WholeChecksum in Checksums, "whole_checksum", "a whole that differs: refused";
    /// The full-object CRC64NVME of several parts, by HEAD.
    ChecksumTold in Checksums, "checksum_told", "HEAD tells the checksum of the whole";
    /// Complete with the ETag of a part that was replaced.
    StalePart in Checksums, "stale_part_refused", "a part by an old ETag: refused";

    /// CreateMultipartUpload, UploadPart, CompleteMultipartUpload with nothing wrong.
    Completes in Parts, "completes", "an upload of parts can be completed";
    /// Complete with fewer parts than were uploaded.
    LeavesOutParts in Parts, "leaves_out_parts", "Complete can leave out a part";
    /// ListParts after UploadPart.
    PartsListed in Parts, "parts_listed", "parts are listed at once";
    /// ListParts by pages, in the order of the numbers.
    PartsInOrder in Parts, "parts_in_order", "parts are listed in order";
    /// UploadPart of a number that is taken.
    PartReplaced in Parts, "part_replaced", "a part sent again replaces the first";
    /// Parts of several sizes.
    UnequalParts in Parts, "unequal_parts", "parts of unequal sizes are taken";
    /// A part under 5 MiB that is not the last.
    SmallPart in Parts, "small_part_refused", "a part under 5 MiB in the middle: refused";
    /// Complete, twice.
    CompleteAgain in Parts, "complete_again", "a second Complete: answered as the first";
    /// Abort, twice.
    AbortAgain in Parts, "abort_again", "a second Abort: answered as unknown, or done";
    /// ListMultipartUploads of a key.
    UploadsListed in Parts, "uploads_listed", "an upload is listed by its key";
    /// ListMultipartUploads of what a key begins with.
    UploadsListedBelow in Parts, "uploads_listed_below", "uploads are listed by a prefix";

    /// The store's clock and ours are less than 15 minutes apart.
    ClockSigned in Surroundings, "clock_signed", "clocks are near enough for signatures";
    /// They are less than a minute apart.
    ClockClose in Surroundings, "clock_close", "clocks are less than a minute apart";
    /// Lifecycle rules that remove or archive objects.
    NothingExpires in Surroundings, "nothing_expires", "no rule removes or archives layers";
    /// Lifecycle rules that abort uploads soon.
    UploadsKept in Surroundings, "uploads_kept", "no rule ends uploads within a week";
    /// Lifecycle rules that abort uploads at all.
    StraysRemoved in Surroundings, "strays_removed", "a rule ends forgotten uploads";
    /// Versions that were replaced are not kept for ever.
    OldVersions in Surroundings, "old_versions", "what is replaced is not kept for ever";
}

/// Whether a statement holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It holds.
    Yes,
    /// It does not.
    No,
    /// It could not be asked.
    Unknown,
    /// It was not asked, because of the answer to another question.
    NotAsked,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// What was asked.
    pub question: Question,
    /// Whether it holds.
    pub answer: Answer,
    /// What the store did, or why it could not be asked.
    pub found: String,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn each_question_has_a_name_of_its_own() {
        let ids: HashSet<_> = Question::ALL.iter().map(|question| question.id()).collect();
        assert_eq!(ids.len(), Question::ALL.len());
    }
}
