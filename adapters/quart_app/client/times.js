// Times as people read them, in their language and time zone.

/** Formats for one language, created once, because creation is slow. */
export function timesIn(language, words) {
  const clock = new Intl.DateTimeFormat(language, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
  const dayThisYear = new Intl.DateTimeFormat(language, { weekday: "long", day: "numeric", month: "long" });
  const day = new Intl.DateTimeFormat(language, { day: "numeric", month: "long", year: "numeric" });
  const weekday = new Intl.DateTimeFormat(language, { weekday: "short" });
  const short = new Intl.DateTimeFormat(language, { day: "numeric", month: "short" });
  const shortWithYear = new Intl.DateTimeFormat(language, {
    day: "2-digit",
    month: "2-digit",
    year: "2-digit",
  });
  const full = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "short" });
  return {
    time: (ts) => clock.format(new Date(ts)),
    full: (ts) => full.format(new Date(ts)),
    /** The heading of a day in a conversation. */
    separator(ts, now = new Date()) {
      const date = new Date(ts);
      const ago = daysBetween(date, now);
      if (ago === 0) return words.today;
      if (ago === 1) return words.yesterday;
      return (date.getFullYear() === now.getFullYear() ? dayThisYear : day).format(date);
    },
    /** The short form for the list of chats: a time today, a weekday this week, else a date. */
    brief(ts, now = new Date()) {
      const date = new Date(ts);
      const ago = daysBetween(date, now);
      if (ago <= 0) return clock.format(date);
      if (ago < 7) return weekday.format(date);
      return (date.getFullYear() === now.getFullYear() ? short : shortWithYear).format(date);
    },
  };
}

/** The calendar day, in the reader's time zone. */
export function dayOf(ts) {
  const date = new Date(ts);
  return `${date.getFullYear()}-${date.getMonth()}-${date.getDate()}`;
}

function daysBetween(date, now) {
  const midnight = (moment) => Date.UTC(moment.getFullYear(), moment.getMonth(), moment.getDate());
  return Math.round((midnight(now) - midnight(date)) / 86_400_000);
}
