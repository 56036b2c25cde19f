/** A release of a key to a device. */
export interface Use {
  index: number;
  /** YYYY-MM-DD, UTC. */
  day: string;
  device: string;
  employee: string;
  /** Where it was asked from, as far as that is known. */
  site: string | undefined;
}

/** Releases to one device on one day: fewer are never unusual. */
const FEW = 20;
/** Times a device's own median day. */
const TIMES = 5;

/** A network as people think of it: an address changes within it from day to day. */
export function siteOf(address: string): string {
  return address.includes(':') ? `${address.split(':').slice(0, 4).join(':')}::/64` : `${address.split('.').slice(0, 3).join('.')}.0/24`;
}

/**
 * What a person would want to look at, in the order of the log: a device that fetched many times what it does on its other days, and one that fetched
 * from a network it was not seen in before. Of a device's first day nothing is known, so nothing is unusual.
 */
export function unusualUses(uses: readonly Use[]): Record<string, string | number | null>[] {
  const found: { index: number; row: Record<string, string | number | null> }[] = [];
  for (const [device, mine] of grouped(uses, ({ device: id }) => id)) {
    const days = [...grouped(mine, ({ day }) => day)];
    const first = days[0]?.[0];
    for (const [day, those] of days) {
      const usual = median(days.flatMap(([other, { length }]) => (other === day ? [] : [length])));
      const at = those[0];
      if (at && usual !== undefined && those.length > Math.max(FEW, TIMES * usual))
        found.push({
          index: at.index,
          row: { why: 'many', day, device, employee: at.employee, count: those.length, usual, network: null },
        });
    }
    const seen = new Set<string>();
    for (const { index, day, employee, site } of mine) {
      if (site === undefined || seen.has(site)) continue;
      if (day !== first && seen.size > 0)
        found.push({ index, row: { why: 'new-network', day, device, employee, count: 1, usual: 0, network: site } });
      seen.add(site);
    }
  }
  return found.toSorted((a, b) => a.index - b.index).map(({ index, row }) => ({ index, ...row }));
}

function grouped(uses: readonly Use[], by: (use: Use) => string): Map<string, Use[]> {
  const groups = new Map<string, Use[]>();
  for (const use of uses) {
    const group = groups.get(by(use));
    if (group) group.push(use);
    else groups.set(by(use), [use]);
  }
  return groups;
}

function median(values: readonly number[]): number | undefined {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[sorted.length >> 1];
}
