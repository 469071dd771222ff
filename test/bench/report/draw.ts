// The picture in the README: bars of requests/s, drawn by hand, so that it looks the same everywhere.
import { median } from '../measure/statistics.ts'
import type { MeasuredRow, Report } from './report.ts'

const width = 980
const labelWidth = 450
const barWidth = 310
const rowHeight = 22
const headHeight = 34
const blockGap = 18
const ours = '#1f6feb'
const theirs = '#9aa4b2'
const ink = '#1f2328'
const faint = '#656d76'

/** What each block is headed with; groups of other units are left out. */
const headings: Readonly<Record<string, string>> = {
  warm: '2000 JWTs seen before; bare: no token is looked at',
  cold: 'JWTs never seen before',
  opaque: '2000 opaque tokens, introspected before',
  rules: '2000 warm JWTs, against rules',
  blacklist: '2000 warm JWTs, against a blacklist',
  tls: '2000 warm JWTs, over TLS',
  workers: '2000 warm JWTs, two processors shared with the load',
}

/** Draws a run as an SVG of its own, readable on a dark page too. */
export function draw(report: Report): string {
  const measured = report.rows.filter(({ runs, group }) => runs.length > 0 && group in headings)
  const most = Math.max(1, ...measured.flatMap(({ runs }) => runs.map(({ rate }) => rate)))
  const parts: string[] = []
  let y = 30
  parts.push(text(16, y, 'Requests a second on one core, by the same load', { size: 17, weight: 600 }))
  y += 22
  const { rounds, seconds, node, processor, made } = report
  const how = `medians of ${rounds} rounds of ${seconds} s, thin line: least to most · Node ${node} · ${processor} · ${made.slice(0, 10)}`
  parts.push(text(16, y, how, { size: 12, fill: faint }))
  for (const group of Object.keys(headings)) {
    const rows = measured.filter((row) => row.group === group)
    if (rows.length === 0) continue
    y += blockGap + headHeight - 8
    parts.push(text(16, y, headings[group] ?? group, { size: 13, weight: 600 }))
    // The fastest first, where contestants are compared.
    const ordered = group === 'warm' ? rows.toSorted((a, b) => rateOf(b) - rateOf(a)) : rows
    for (const row of ordered) {
      y += rowHeight
      parts.push(bar(row, y, most))
    }
  }
  const height = y + 24
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif" role="img" aria-label="Requests a second of the gateway and its contestants">`,
    `<rect width="${width}" height="${height}" rx="8" fill="#ffffff"/>`,
    ...parts,
    '</svg>\n',
  ].join('\n')
}

function bar({ name, by, runs }: MeasuredRow, y: number, most: number): string {
  const rates = runs.map(({ rate }) => rate)
  const scale = (rate: number) => (rate / most) * barWidth
  const left = labelWidth + 16
  const [least, greatest] = [Math.min(...rates), Math.max(...rates)].map((rate) => left + scale(rate))
  const rate = median(rates)
  const cpu = median(runs.map(({ cpuUs }) => cpuUs))
  const said = `${Math.round(rate).toLocaleString('en-US')}  ·  ${cpu.toFixed(0)} CPU-µs each`
  return [
    text(left - 10, y, name, { size: 12, anchor: 'end' }),
    `<rect x="${left}" y="${y - 12}" width="${scale(rate).toFixed(1)}" height="14" rx="2" fill="${by === 'gateway' ? ours : theirs}"/>`,
    `<path d="M${least?.toFixed(1)} ${y - 5}H${greatest?.toFixed(1)}" stroke="${ink}" stroke-width="1.5"/>`,
    text(Math.max(greatest ?? left, left + scale(rate)) + 8, y, said, { size: 12, fill: faint }),
  ].join('')
}

function rateOf({ runs }: MeasuredRow): number {
  return median(runs.map(({ rate }) => rate))
}

function text(
  x: number,
  y: number,
  content: string,
  {
    size,
    weight = 400,
    fill = ink,
    anchor = 'start',
  }: { readonly size: number; readonly weight?: number; readonly fill?: string; readonly anchor?: 'start' | 'end' },
): string {
  const safe = content.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')
  return `<text x="${x.toFixed(1)}" y="${y}" font-size="${size}" font-weight="${weight}" fill="${fill}" text-anchor="${anchor}">${safe}</text>`
}
