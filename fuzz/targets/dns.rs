//! A question for a name, as any container may send it, and its answer.
#![no_main]

use dns::{Code, MAX_UDP, Query, Record};

libfuzzer_sys::fuzz_target!(|message: &[u8]| {
    let Ok(query) = Query::read(message) else { return };
    let records = [Record::A([172, 18, 0, 2].into()), Record::Ptr(query.name.clone())];
    let answer = query.answer(Code::Ok, &records, MAX_UDP);
    assert!(query.is_answered_by(&answer));
    dns::reverse(&query.name);
});
