import type { Entry, EntryInit } from '../../wire/generated/types.ts'
import { formatRows, formatUnixSeconds } from '../pretty.ts'

/** The block that `entry show` prints for one entry, with an empty line after it. */
export function formatEntry (entry: Entry | EntryInit): string {
  const { additionalAttributes: attributes, selectors = [], federatesWith = [], dnsNames = [] } = entry
  const expiresAt = Number(entry.expiresAt ?? 0)
  return `${formatRows([
    ['Entry ID', entry.id === undefined || entry.id === '' ? '(none)' : entry.id],
    ['SPIFFE ID', idText(entry.spiffeId)],
    ['Parent ID', idText(entry.parentId)],
    ['Revision', `${entry.revisionNumber ?? 0}`],
    ['Downstream', entry.downstream === true ? 'true' : undefined],
    ['X509-SVID TTL', ttlText(entry.x509SvidTtl)],
    ['JWT-SVID TTL', ttlText(entry.jwtSvidTtl)],
    ['Expiration time', expiresAt === 0 ? undefined : formatUnixSeconds(expiresAt)],
    ...selectors.map(({ type = '', value = '' }) => ['Selector', `${type}:${value}`] as const),
    ...federatesWith.map(name => ['FederatesWith', name] as const),
    ...dnsNames.map(name => ['DNS name', name] as const),
    ['Admin', entry.admin === true ? 'true' : undefined],
    ['StoreSvid', entry.storeSvid === true ? 'true' : undefined],
    ['Hint', entry.hint === '' ? undefined : entry.hint],
    ['DisableX509SvidPrefetch', attributes?.disableX509SvidPrefetch === true ? 'true' : undefined],
    ['JwtSvidIncludeJti', attributes?.jwtSvidIncludeJti === true ? 'true' : undefined]
  ], 24)}\n`
}

/** `''` for none. */
export function idText (id: EntryInit['spiffeId']): string {
  return id === undefined ? '' : `spiffe://${id.trustDomain}${id.path}`
}

function ttlText (seconds: number | undefined): string {
  return seconds === undefined || seconds === 0 ? 'default' : `${seconds}`
}
