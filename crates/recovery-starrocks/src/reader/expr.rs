//! Conditions on rows: what `--where` takes, and the delete predicates of a tablet.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, RecordBatch, Scalar};
use arrow::compute::kernels::cmp;
use arrow::compute::{and_kleene, is_not_null, is_null, not, or_kleene};
use nom::branch::alt;
use nom::bytes::complete::{tag, tag_no_case, take_while1};
use nom::character::complete::{char, multispace0, none_of, satisfy};
use nom::combinator::{map, not as not_followed, opt, recognize, value};
use nom::multi::{many0, separated_list1};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser};
use recovery_core::{Error, Result};

use super::text;
use crate::model::schema::{Column, DeletePredicate, TabletSchema};

/// A comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `=`
    Eq,
    /// `!=`, `<>`
    Ne,
    /// `<`
    Lt,
    /// `<=`
    Le,
    /// `>`
    Gt,
    /// `>=`
    Ge,
}

impl Op {
    const fn flipped(self) -> Self {
        match self {
            Self::Lt => Self::Gt,
            Self::Le => Self::Ge,
            Self::Gt => Self::Lt,
            Self::Ge => Self::Le,
            same => same,
        }
    }
}

/// A condition on the columns of a row, with SQL's three truth values.
#[derive(Clone, Debug, PartialEq)]
pub enum Expr {
    /// Column, comparison, literal as text.
    Compare(String, Op, String),
    /// Column IS NULL, or IS NOT NULL when the flag is unset.
    IsNull(String, bool),
    /// Column IN (literals), or NOT IN when the flag is unset.
    In(String, bool, Vec<String>),
    /// Both.
    And(Box<Expr>, Box<Expr>),
    /// Either.
    Or(Box<Expr>, Box<Expr>),
    /// The opposite.
    Not(Box<Expr>),
}

/// Deepest nesting of parentheses and NOT.
const DEPTH: usize = 64;

type Input<'a> = &'a str;

fn spaced<'a, O>(
    inner: impl Parser<Input<'a>, Output = O, Error = nom::error::Error<Input<'a>>>,
) -> impl Parser<Input<'a>, Output = O, Error = nom::error::Error<Input<'a>>> {
    delimited(multispace0, inner, multispace0)
}

fn word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

fn keyword<'a>(name: &'static str) -> impl Parser<Input<'a>, Output = (), Error = nom::error::Error<Input<'a>>> {
    spaced(value((), terminated(tag_no_case(name), not_followed(satisfy(word)))))
}

fn name(i: Input<'_>) -> IResult<Input<'_>, String> {
    let quoted = delimited(char('`'), recognize(many0(none_of("`"))), char('`'));
    let bare = recognize((satisfy(|c| c.is_alphabetic() || c == '_'), many0(satisfy(word))));
    spaced(alt((map(quoted, str::to_owned), map(bare, str::to_owned)))).parse(i)
}

fn text_literal(i: Input<'_>, quote: char) -> IResult<Input<'_>, String> {
    let plain = satisfy(move |c| c != quote && c != '\\');
    let doubled = map((char(quote), char(quote)), move |_| quote);
    let escaped = preceded(char('\\'), nom::character::complete::anychar);
    let body = map(many0(alt((escaped, doubled, plain))), |c| c.into_iter().collect());
    delimited(char(quote), body, char(quote)).parse(i)
}

fn literal(i: Input<'_>) -> IResult<Input<'_>, String> {
    let number = map(take_while1(|c: char| c.is_ascii_alphanumeric() || "+-.".contains(c)), str::to_owned);
    let number = nom::combinator::verify(number, |n: &String| {
        let n = n.to_ascii_lowercase();
        n.parse::<f64>().is_ok() || n == "true" || n == "false"
    });
    spaced(alt((|i| text_literal(i, '\''), |i| text_literal(i, '"'), number))).parse(i)
}

fn op(i: Input<'_>) -> IResult<Input<'_>, Op> {
    spaced(alt((
        value(Op::Ne, alt((tag("!="), tag("<>")))),
        value(Op::Le, tag("<=")),
        value(Op::Ge, tag(">=")),
        value(Op::Eq, alt((tag("=="), tag("=")))),
        value(Op::Lt, tag("<")),
        value(Op::Gt, tag(">")),
    )))
    .parse(i)
}

fn condition(i: Input<'_>) -> IResult<Input<'_>, Expr> {
    if let Ok((rest, (lit, op, column))) = (literal, op, name).parse(i) {
        return Ok((rest, Expr::Compare(column, op.flipped(), lit)));
    }
    let (i, column) = name(i)?;
    if let Ok((rest, (op, lit))) = (op, literal).parse(i) {
        return Ok((rest, Expr::Compare(column, op, lit)));
    }
    if let Ok((rest, (_, negated, _))) = (keyword("is"), opt(keyword("not")), keyword("null")).parse(i) {
        return Ok((rest, Expr::IsNull(column, negated.is_none())));
    }
    let (i, negated) = opt(keyword("not")).parse(i)?;
    let wrap = |e| if negated.is_some() { Expr::Not(Box::new(e)) } else { e };
    if let Ok((rest, (_, low, _, high))) = (keyword("between"), literal, keyword("and"), literal).parse(i) {
        let low = Expr::Compare(column.clone(), Op::Ge, low);
        let high = Expr::Compare(column, Op::Le, high);
        return Ok((rest, wrap(Expr::And(Box::new(low), Box::new(high)))));
    }
    let list = delimited(spaced(char('(')), separated_list1(spaced(char(',')), literal), spaced(char(')')));
    let (rest, values) = preceded(keyword("in"), list).parse(i)?;
    Ok((rest, Expr::In(column, negated.is_none(), values)))
}

fn primary(i: Input<'_>, depth: usize) -> IResult<Input<'_>, Expr> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(nom::Err::Failure(nom::error::Error::new(i, nom::error::ErrorKind::TooLarge)));
    };
    if let Ok((rest, ())) = keyword("not").parse(i) {
        return map(|i| primary(i, depth), |e| Expr::Not(Box::new(e))).parse(rest);
    }
    if let Ok((rest, _)) = spaced(char('(')).parse(i) {
        return terminated(|i| either(i, depth), spaced(char(')'))).parse(rest);
    }
    condition(i)
}

fn both(i: Input<'_>, depth: usize) -> IResult<Input<'_>, Expr> {
    let (mut i, mut left) = primary(i, depth)?;
    while let Ok((rest, ())) = keyword("and").parse(i) {
        let (rest, right) = primary(rest, depth)?;
        left = Expr::And(Box::new(left), Box::new(right));
        i = rest;
    }
    Ok((i, left))
}

fn either(i: Input<'_>, depth: usize) -> IResult<Input<'_>, Expr> {
    let (mut i, mut left) = both(i, depth)?;
    while let Ok((rest, ())) = keyword("or").parse(i) {
        let (rest, right) = both(rest, depth)?;
        left = Expr::Or(Box::new(left), Box::new(right));
        i = rest;
    }
    Ok((i, left))
}

impl Expr {
    /// Reads a condition: comparisons of a column with a literal, `IS [NOT] NULL`, `[NOT] IN`, `[NOT] BETWEEN`, `AND`,
    /// `OR`, `NOT` and parentheses.
    ///
    /// # Errors
    ///
    /// When the text is none.
    pub fn parse(text: &str) -> Result<Self> {
        // Chains of AND and OR nest to the left as deep as they are long.
        if text.len() > 64 << 10 {
            return Err(Error::Usage("the condition is longer than 64 KiB".into()));
        }
        let hint = "conditions look like: k >= 5 AND (name = 'x' OR day IS NULL)";
        match either(text, DEPTH) {
            Ok(("", expr)) => Ok(expr),
            Ok((rest, _))
            | Err(nom::Err::Error(nom::error::Error { input: rest, .. }))
            | Err(nom::Err::Failure(nom::error::Error { input: rest, .. })) => {
                Err(Error::Usage(format!("cannot read the condition from {rest:?} on; {hint}")))
            }
            Err(nom::Err::Incomplete(_)) => Err(Error::Usage(format!("the condition is not complete; {hint}"))),
        }
    }

    /// The condition of a DELETE; `None` when it has none.
    ///
    /// The text of a sub predicate is `column op value`, strict comparisons doubled, the value verbatim
    /// (`be/src/storage/delete_handler.cpp`, `DeleteConditionHandler::parse_condition`).
    ///
    /// # Errors
    ///
    /// When a condition cannot be read.
    pub fn of_delete(predicate: &DeletePredicate) -> Result<Option<Self>> {
        let mut all: Option<Self> = None;
        let texts = predicate.conditions.iter().map(|text| sub_predicate(text));
        let lists = predicate.lists.iter().map(|l| Ok(Self::In(l.column.clone(), !l.negated, l.values.clone())));
        for expr in texts.chain(lists) {
            let expr = expr?;
            all = Some(match all {
                Some(left) => Self::And(Box::new(left), Box::new(expr)),
                None => expr,
            });
        }
        Ok(all)
    }

    /// Adds the names of the columns it needs.
    pub fn columns(&self, into: &mut Vec<String>) {
        match self {
            Self::Compare(c, ..) | Self::IsNull(c, _) | Self::In(c, ..) => into.push(c.clone()),
            Self::And(a, b) | Self::Or(a, b) => {
                a.columns(into);
                b.columns(into);
            }
            Self::Not(a) => a.columns(into),
        }
    }

    /// Binds the condition to the columns of a schema.
    ///
    /// # Errors
    ///
    /// When a column does not exist or a literal is no value of its type.
    pub fn bind(&self, schema: &TabletSchema) -> Result<Bound> {
        let column = |name: &str| find(schema, name);
        Ok(match self {
            Self::Compare(name, op, lit) => {
                let column = column(name)?;
                comparable(column)?;
                Bound::Compare(column.name.clone(), *op, text::parse(column, lit.as_bytes())?)
            }
            Self::IsNull(name, positive) => Bound::IsNull(column(name)?.name.clone(), *positive),
            Self::In(name, positive, values) => {
                let column = column(name)?;
                comparable(column)?;
                let values = values.iter().map(|v| text::parse(column, v.as_bytes())).collect::<Result<_>>()?;
                Bound::In(column.name.clone(), *positive, values)
            }
            Self::And(a, b) => Bound::And(Box::new(a.bind(schema)?), Box::new(b.bind(schema)?)),
            Self::Or(a, b) => Bound::Or(Box::new(a.bind(schema)?), Box::new(b.bind(schema)?)),
            Self::Not(a) => Bound::Not(Box::new(a.bind(schema)?)),
        })
    }
}

/// The column of this name; case does not matter where only one fits.
pub(crate) fn find<'a>(schema: &'a TabletSchema, name: &str) -> Result<&'a Column> {
    let exact = schema.columns.iter().find(|c| c.name == name);
    let folded = || schema.columns.iter().find(|c| c.name.eq_ignore_ascii_case(name));
    exact.or_else(folded).ok_or_else(|| {
        let names: Vec<&str> = schema.columns.iter().filter(|c| c.visible).map(|c| c.name.as_str()).collect();
        Error::Usage(format!("no column {name:?}; there are {}", names.join(", ")))
    })
}

fn comparable(column: &Column) -> Result<()> {
    use crate::model::schema::ColumnType as T;
    match column.kind {
        T::Array | T::Map | T::Struct | T::Hll | T::Object | T::Percentile | T::Json => {
            Err(Error::Usage(format!("column {:?} ({}) cannot be compared", column.name, column.kind.name())))
        }
        _ => Ok(()),
    }
}

fn sub_predicate(text: &str) -> Result<Expr> {
    let bad = || Error::unsupported(format!("the delete condition {text:?}"));
    // The engine splits at the first character that cannot be in a name; IS NULL has none.
    let Some(at) = text.find(['=', '<', '>', '!', '*']) else {
        let tests = [(" IS NOT NULL", false), (" IS NULL", true)];
        let test = tests.iter().find_map(|(t, positive)| text.strip_suffix(t).map(|c| (c, *positive)));
        return test.map(|(c, positive)| Expr::IsNull(c.to_owned(), positive)).ok_or_else(bad);
    };
    if at == 0 {
        return Err(bad());
    }
    let (column, rest) = text.split_at_checked(at).ok_or_else(bad)?;
    let ops =
        [("!=", Op::Ne), ("<<", Op::Lt), (">>", Op::Gt), ("<=", Op::Le), (">=", Op::Ge), ("*=", Op::Eq), ("=", Op::Eq)];
    let (op, literal) = ops.iter().find_map(|(t, op)| rest.strip_prefix(t).map(|l| (*op, l))).ok_or_else(bad)?;
    Ok(Expr::Compare(column.to_owned(), op, literal.to_owned()))
}

/// A condition whose literals have the types of their columns.
#[derive(Clone, Debug)]
pub enum Bound {
    /// Column, comparison, literal.
    Compare(String, Op, ArrayRef),
    /// IS NULL or IS NOT NULL.
    IsNull(String, bool),
    /// IN or NOT IN.
    In(String, bool, Vec<ArrayRef>),
    /// Both.
    And(Box<Bound>, Box<Bound>),
    /// Either.
    Or(Box<Bound>, Box<Bound>),
    /// The opposite.
    Not(Box<Bound>),
}

impl Bound {
    /// The truth of each row; NULL where it is not known.
    ///
    /// # Errors
    ///
    /// When a column is missing or of another type.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let column = |name: &str| {
            batch.column_by_name(name).ok_or_else(|| Error::Internal(format!("column {name:?} was not read")))
        };
        let wrong = |e: arrow::error::ArrowError| Error::Usage(e.to_string());
        match self {
            Self::Compare(name, op, literal) => compare(column(name)?, *op, literal),
            Self::IsNull(name, true) => is_null(column(name)?).map_err(wrong),
            Self::IsNull(name, false) => is_not_null(column(name)?).map_err(wrong),
            Self::In(name, positive, values) => {
                let array = column(name)?;
                let mut any = BooleanArray::from(vec![false; array.len()]);
                for v in values {
                    any = or_kleene(&any, &compare(array, Op::Eq, v)?).map_err(wrong)?;
                }
                if *positive { Ok(any) } else { not(&any).map_err(wrong) }
            }
            Self::And(a, b) => and_kleene(&a.evaluate(batch)?, &b.evaluate(batch)?).map_err(wrong),
            Self::Or(a, b) => or_kleene(&a.evaluate(batch)?, &b.evaluate(batch)?).map_err(wrong),
            Self::Not(a) => not(&a.evaluate(batch)?).map_err(wrong),
        }
    }

    /// Whether each row is known to satisfy the condition.
    ///
    /// # Errors
    ///
    /// As [`evaluate`](Self::evaluate).
    pub fn matches(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let truth = self.evaluate(batch)?;
        Ok(if truth.null_count() == 0 { truth } else { arrow::compute::prep_null_mask_filter(&truth) })
    }
}

fn compare(array: &ArrayRef, op: Op, literal: &ArrayRef) -> Result<BooleanArray> {
    let scalar = Scalar::new(Arc::clone(literal));
    let array: &dyn Array = array.as_ref();
    let result = match op {
        Op::Eq => cmp::eq(&array, &scalar),
        Op::Ne => cmp::neq(&array, &scalar),
        Op::Lt => cmp::lt(&array, &scalar),
        Op::Le => cmp::lt_eq(&array, &scalar),
        Op::Gt => cmp::gt(&array, &scalar),
        Op::Ge => cmp::gt_eq(&array, &scalar),
    };
    result.map_err(|e| Error::Usage(e.to_string()))
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::cast_possible_truncation
    )]
    use super::*;

    #[test]
    fn grammar() {
        let cmp = |c: &str, op, l: &str| Box::new(Expr::Compare(c.into(), op, l.into()));
        assert_eq!(Expr::parse("k >= 5").unwrap(), *cmp("k", Op::Ge, "5"));
        assert_eq!(Expr::parse(" 5 < `a b` ").unwrap(), *cmp("a b", Op::Gt, "5"));
        assert_eq!(Expr::parse("s='it''s'").unwrap(), *cmp("s", Op::Eq, "it's"));
        assert_eq!(
            Expr::parse("a=1 or b=2 and not c<>-3.5").unwrap(),
            Expr::Or(
                cmp("a", Op::Eq, "1"),
                Box::new(Expr::And(cmp("b", Op::Eq, "2"), Box::new(Expr::Not(cmp("c", Op::Ne, "-3.5")))))
            )
        );
        assert_eq!(Expr::parse("x is not null").unwrap(), Expr::IsNull("x".into(), false));
        assert_eq!(Expr::parse("x not in (1, 2)").unwrap(), Expr::In("x".into(), false, vec!["1".into(), "2".into()]));
        assert!(Expr::parse("island = 1 and notes = 2").is_ok());
        for bad in ["", "k", "k >", "k = 1 and", "(k = 1", "k = 1)", "k = 'x", "k between 1"] {
            assert!(Expr::parse(bad).is_err(), "{bad}");
        }
        assert!(Expr::parse(&format!("{}k=1", "(".repeat(1000))).is_err());
    }

    #[test]
    fn delete_conditions() {
        let get = |t: &str| sub_predicate(t).unwrap();
        assert_eq!(get("k>=5"), Expr::Compare("k".into(), Op::Ge, "5".into()));
        assert_eq!(get("k<<12"), Expr::Compare("k".into(), Op::Lt, "12".into()));
        assert_eq!(get("c=a=b<c"), Expr::Compare("c".into(), Op::Eq, "a=b<c".into()));
        assert_eq!(get("c="), Expr::Compare("c".into(), Op::Eq, String::new()));
        assert_eq!(get("c*=x"), Expr::Compare("c".into(), Op::Eq, "x".into()));
        assert_eq!(get("c IS NOT NULL"), Expr::IsNull("c".into(), false));
        assert!(sub_predicate("nothing").is_err());
    }
}
