//! The result of looking: what it is, how bad, what the engine would do, what to do next.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::coverage::{Class, Coverage, Totals};
use crate::finding::{Effect, Finding, Severity};

/// Name and version of the report's JSON.
pub const REPORT_SCHEMA: &str = "recover/report/1";

/// How many damaged, unread or unknown ranges of one object stand in the JSON.
const RANGES_SHOWN: usize = 1000;

/// The one-word answer; see `ARCHITECTURE.md`, "What verdicts mean".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Everything was read, nothing is damaged, unread or unknown.
    Sound,
    /// No damage in what was read, but not everything was read or understood.
    Unverified,
    /// Damage, and everything complete can be kept.
    Recoverable,
    /// Complete records are unreadable and nothing else holds them.
    Lossy,
    /// Not this engine's, or nothing can be saved.
    Unusable,
}

impl Verdict {
    /// The exit code of `inspect` and `plan`.
    #[must_use]
    pub const fn exit(self) -> u8 {
        match self {
            Self::Sound | Self::Unverified => 0,
            Self::Recoverable => 3,
            Self::Lossy => 4,
            Self::Unusable => 5,
        }
    }

    /// The word used in JSON and on the first line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Unverified => "unverified",
            Self::Recoverable => "recoverable",
            Self::Lossy => "lossy",
            Self::Unusable => "unusable",
        }
    }
}

/// What the engine itself would do to the directory if it were started now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IfStarted {
    /// `truncates`, `deletes`, `skips`, `refuses`, `rolls-back` (or, where nothing is lost, another plain verb).
    pub action: String,
    /// The file or thing it happens to.
    pub object: String,
    /// What is lost by it.
    pub loses: Effect,
    /// Why, in a sentence.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub why: String,
}

impl IfStarted {
    /// An action that loses nothing by itself.
    #[must_use]
    pub fn new(action: impl Into<String>, object: impl Into<String>, why: impl Into<String>) -> Self {
        Self { action: action.into(), object: object.into(), loses: Effect::default(), why: why.into() }
    }

    /// Sets what is lost.
    #[must_use]
    pub fn loses(mut self, records: u64, bytes: u64) -> Self {
        self.loses = Effect { records, bytes };
        self
    }
}

/// One of several copies of the truth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// Number of the source it lies in.
    pub source: u16,
    /// What it is called there.
    pub name: String,
    /// 1 for the best.
    pub rank: u32,
    /// Why it stands where it stands.
    pub reasons: Vec<String>,
    /// The engine's own figures of it.
    pub facts: serde_json::Value,
}

/// One object of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Number of the source.
    pub source: u16,
    /// Name in the source.
    pub name: String,
    /// What the engine makes of it: `live`, `obsolete`, `foreign`, …
    pub class: String,
    /// What is known of its bytes.
    pub coverage: Coverage,
    /// Whether its bytes count in the totals (foreign files do not).
    pub counted: bool,
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Shown<'a> {
            source: u16,
            name: &'a str,
            class: &'a str,
            coverage: ShownCoverage,
        }
        #[derive(Serialize)]
        struct ShownCoverage {
            #[serde(flatten)]
            totals: Totals,
            #[serde(skip_serializing_if = "Vec::is_empty")]
            ranges: Vec<(Class, u64, u64)>,
        }
        let bad = |c: &Class| matches!(c, Class::Damaged | Class::Unread | Class::Unknown);
        let ranges = self.coverage.ranges().filter(|(_, c)| bad(c)).take(RANGES_SHOWN);
        let ranges = ranges.map(|(r, c)| (c, r.start, r.end)).collect();
        let coverage = ShownCoverage { totals: self.coverage.totals(), ranges };
        Shown { source: self.source, name: &self.name, class: &self.class, coverage }.serialize(serializer)
    }
}

/// The result of `inspect`.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Name and version of this form.
    pub schema: &'static str,
    /// The engine.
    pub engine: &'static str,
    /// The answer.
    pub verdict: Verdict,
    /// The exit code that belongs to it.
    pub exit: u8,
    /// Whether everything was read.
    pub complete: bool,
    /// What was looked at.
    pub sources: Vec<String>,
    /// The engine's own facts.
    pub facts: serde_json::Value,
    /// Rival copies, the best first.
    pub candidates: Vec<Candidate>,
    /// What the engine would do if started now.
    pub if_started: Vec<IfStarted>,
    /// What is wrong; at most [`Limits::findings`](crate::Limits) of a code, the worst kept first.
    pub findings: Vec<Finding>,
    /// How many findings there are in all.
    pub findings_total: u64,
    /// Whether findings were left out.
    pub truncated: bool,
    /// Every object.
    pub objects: Vec<Object>,
    /// Totals over all objects that count.
    pub coverage: Totals,
    /// Exact next commands.
    pub next: Vec<String>,
    /// The engine's typed model, for its own `plan`.
    #[serde(skip)]
    pub state: Option<State>,
}

/// An engine's typed model, carried beside the report.
#[derive(Clone)]
pub struct State(pub Arc<dyn Any + Send + Sync>);

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("State(..)")
    }
}

impl Report {
    /// The engine's typed model, if the report carries one of this type.
    #[must_use]
    pub fn state<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.state.as_ref().and_then(|s| Arc::clone(&s.0).downcast().ok())
    }
}

/// Collects what an inspection finds.
#[derive(Debug)]
pub struct ReportBuilder {
    report: Report,
    per_code: BTreeMap<&'static str, u64>,
    cap: u64,
    worst: Severity,
    unusable: bool,
}

impl ReportBuilder {
    /// An empty report of an engine over these sources; `cap` is the number of findings kept of one code.
    #[must_use]
    pub fn new(engine: &'static str, sources: &crate::Sources, cap: usize) -> Self {
        let report = Report {
            schema: REPORT_SCHEMA,
            engine,
            verdict: Verdict::Sound,
            exit: 0,
            complete: true,
            sources: sources.all().map(|(_, s)| s.describe()).collect(),
            facts: serde_json::Value::Object(serde_json::Map::new()),
            candidates: Vec::new(),
            if_started: Vec::new(),
            findings: Vec::new(),
            findings_total: 0,
            truncated: false,
            objects: Vec::new(),
            coverage: Totals::default(),
            next: Vec::new(),
            state: None,
        };
        Self { report, per_code: BTreeMap::new(), cap: cap as u64, worst: Severity::Note, unusable: false }
    }

    /// Adds a finding; past the cap of its code it is only counted.
    pub fn finding(&mut self, finding: Finding) {
        self.worst = self.worst.max(finding.severity);
        self.report.findings_total = self.report.findings_total.saturating_add(1);
        let seen = self.per_code.entry(finding.code).or_default();
        *seen = seen.saturating_add(1);
        if *seen <= self.cap {
            self.report.findings.push(finding);
        } else {
            self.report.truncated = true;
        }
    }

    /// Adds findings.
    pub fn findings(&mut self, findings: impl IntoIterator<Item = Finding>) {
        for finding in findings {
            self.finding(finding);
        }
    }

    /// Adds an object whose bytes count.
    pub fn object(&mut self, source: u16, name: impl Into<String>, class: impl Into<String>, coverage: Coverage) {
        self.report.coverage.add(&coverage.totals());
        let (name, class) = (name.into(), class.into());
        self.report.objects.push(Object { source, name, class, coverage, counted: true });
    }

    /// Adds an object that is shown and does not count: a foreign file.
    pub fn foreign(&mut self, source: u16, name: impl Into<String>, class: impl Into<String>, len: u64) {
        let (name, class, coverage) = (name.into(), class.into(), Coverage::new(len));
        self.report.objects.push(Object { source, name, class, coverage, counted: false });
    }

    /// Says what the engine would do.
    pub fn if_started(&mut self, action: IfStarted) {
        self.report.if_started.push(action);
    }

    /// Adds a candidate.
    pub fn candidate(&mut self, candidate: Candidate) {
        self.report.candidates.push(candidate);
    }

    /// Sets the engine's facts.
    pub fn facts(&mut self, facts: serde_json::Value) {
        self.report.facts = facts;
    }

    /// Adds a next command.
    pub fn next(&mut self, line: impl Into<String>) {
        self.report.next.push(line.into());
    }

    /// Says that not everything was read.
    pub fn incomplete(&mut self) {
        self.report.complete = false;
    }

    /// Says that nothing can be saved.
    pub fn unusable(&mut self) {
        self.unusable = true;
    }

    /// Attaches the typed model.
    pub fn state<T: Any + Send + Sync>(&mut self, state: Arc<T>) {
        self.report.state = Some(State(state));
    }

    /// The worst severity so far.
    #[must_use]
    pub fn worst(&self) -> Severity {
        self.worst
    }

    /// Draws the conclusion.
    ///
    /// The verdict follows from findings and coverage alone: lost records are `lossy`; damage, suspicion, damaged or
    /// unread bytes are `recoverable`; without any of these, unknown or unvisited bytes are `unverified`.
    #[must_use]
    pub fn finish(mut self) -> Report {
        let c = &self.report.coverage;
        let touched = c.damaged > 0 || (c.unread > 0 && self.report.complete);
        self.report.verdict = match self.worst {
            _ if self.unusable => Verdict::Unusable,
            Severity::Lost => Verdict::Lossy,
            Severity::Damaged | Severity::Suspect => Verdict::Recoverable,
            Severity::Note if touched => Verdict::Recoverable,
            Severity::Note if !self.report.complete || c.unknown > 0 || c.unread > 0 => Verdict::Unverified,
            Severity::Note => Verdict::Sound,
        };
        self.report.complete &= c.unknown == 0 && c.unread == 0;
        self.report.exit = self.report.verdict.exit();
        self.report.findings.sort_by(|a, b| {
            let key = |f: &Finding| (f.source, f.object.clone(), f.offset, f.code);
            b.severity.cmp(&a.severity).then_with(|| key(a).cmp(&key(b)))
        });
        self.report.objects.sort_by(|a, b| (a.source, &a.name).cmp(&(b.source, &b.name)));
        self.report
    }
}
