import type { X509SVID, X509SVIDResponse } from '../../wire/generated/workload.ts'
import { parseCertificate, splitCertificates } from '../../x509/certificate.ts'
import { counted, formatTime, printable } from '../pretty.ts'
import type { Program } from '../terminal.ts'

/** @param value is not printable text yet */
type Row = (label: string, value: string) => string

const inColumns: Row = (label, value) => `${label.padEnd(31)} ${printable(value)}\n`
/** As SPIRE's program prints it. */
const byTabs: Row = (label, value) => `${label}${'\t'.repeat(tabsAfter[label] ?? 1)}${printable(value)}\n`
const tabsAfter: Readonly<Record<string, number>> = { 'Hint:': 3, 'SPIFFE ID:': 2 }

/** What `fetch x509` and `watch` print for one answer. @param afterMs how long the answer took */
export function formatX509Response (response: X509SVIDResponse, afterMs: number, program: Program): string {
  const row = program === 'assay' ? inColumns : byTabs
  const federated = Object.entries(response.federatedBundles)
  const blocks = response.svids.map(svid => formatSvid(svid, row) + federated.map(([trustDomain, bundle]) =>
    validity(splitCertificates(bundle), number => `[${printable(trustDomain)}] CA #${number}`, row)).join(''))
  return `Received ${counted(response.svids.length, 'svid', 'svids')} after ${formatMs(afterMs)}\n\n${blocks.join('\n')}\n`
}

function formatSvid ({ spiffeId, hint, x509Svid, bundle }: X509SVID, row: Row): string {
  const [leaf, ...intermediates] = splitCertificates(x509Svid)
  return [
    row('SPIFFE ID:', spiffeId),
    hint === '' ? '' : row('Hint:', hint),
    leaf === undefined ? '' : validity([leaf], () => 'SVID', row),
    validity(intermediates, number => `Intermediate #${number}`, row),
    validity(splitCertificates(bundle), number => `CA #${number}`, row)
  ].join('')
}

function validity (certificates: readonly Uint8Array[], label: (number: number) => string, row: Row): string {
  return certificates.map((der, index) => {
    const { notBefore, notAfter } = parseCertificate(der)
    return row(`${label(index + 1)} Valid After:`, formatTime(notBefore)) + row(`${label(index + 1)} Valid Until:`, formatTime(notAfter))
  }).join('')
}

function formatMs (ms: number): string {
  return ms < 1_000 ? `${Number(ms.toFixed(3))}ms` : `${Number((ms / 1_000).toFixed(3))}s`
}
