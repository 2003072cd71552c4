import { formatDuration } from '../../runtime/duration.ts'
import type { BundleFacts, Following, Partner, Source } from '../../wire/generated/federation.ts'
import { shortId } from '../cluster/format-cursor.ts'
import { counted, formatRows, formatTime } from '../pretty.ts'

type Row = readonly [label: string, value: string | undefined]

/** The block for one partner, after an empty line. @param now Unix milliseconds, by the server's clock */
export function formatPartner (partner: Partner, now: bigint): string {
  const { trustDomain, health, configured, bundleEndpointUrl, bundleEndpointProfile, endpointSpiffeId, bundle, following } = partner
  return `\n${formatRows([
    ['Trust domain', trustDomain],
    ['Health', health],
    ['Relationship', configured ? 'of the server\'s configuration' : 'stored'],
    ['Bundle endpoint URL', bundleEndpointUrl],
    ['Bundle endpoint profile', bundleEndpointProfile],
    ['Endpoint SPIFFE ID', endpointSpiffeId === '' ? undefined : endpointSpiffeId],
    ...bundle === undefined ? [['Bundle', 'none: nothing of this domain is trusted'] as const] : bundleRows(bundle, now),
    ...following === undefined ? [['Followed by', 'nobody yet'] as const] : followingRows(following, now),
    ['Outside enforcement', formatConsumers(partner)]
  ], 26)}`
}

function bundleRows (bundle: BundleFacts, now: bigint): Row[] {
  const { sequenceNumber, refreshHintSeconds, x509Authorities, jwtAuthorities, trustEndsAt } = bundle
  return [
    ['Sequence number', sequenceNumber === undefined ? 'none' : `${sequenceNumber}`],
    ['Refresh hint', refreshHintSeconds === undefined ? 'none' : formatDuration(Number(refreshHintSeconds) * 1_000)],
    ['Authorities', `${x509Authorities} X.509, ${jwtAuthorities} JWT`],
    ['Trust breaks', trustEndsAt === undefined ? 'there is no X.509 authority' : formatInstant(trustEndsAt, now)]
  ]
}

function followingRows ({ replicaId, lastSuccessAt, suppliedBy, nextPollAt, failures, sources }: Following, now: bigint): Row[] {
  const from = suppliedBy === '' ? '' : `, from ${suppliedBy}`
  return [
    ['Followed by', `replica ${shortId(replicaId)}`],
    ['Last success', lastSuccessAt === 0n ? 'never' : `${formatInstant(lastSuccessAt, now)}${from}`],
    ...sources.length > 1 ? sourceRows(sources, suppliedBy, now) : [],
    ['Failures in a row', `${failures}`],
    ...sources.flatMap(source => errorRows(source, now)),
    ['Next poll', nextPollAt === 0n ? 'now' : formatInstant(nextPollAt, now)]
  ]
}

/** Of a partner with copies: which of its sources gave what is in force, and how the others fare. */
function sourceRows (sources: readonly Source[], suppliedBy: string, now: bigint): Row[] {
  const inUse = sources.findIndex(({ name }) => name === suppliedBy)
  return [
    ['Source in use', inUse < 0 ? 'none yet' : inUse === 0 ? 'its endpoint' : `copy ${inUse} of ${sources.length - 1}: ${suppliedBy}`],
    ...sources.slice(1).map(({ name, lastSuccessAt }, index): Row => {
      return [`Copy ${index + 1}`, `${name}, ${lastSuccessAt === 0n ? 'has given nothing' : formatInstant(lastSuccessAt, now)}`]
    })
  ]
}

function errorRows ({ name, lastError }: Source, now: bigint): Row[] {
  if (lastError === undefined) return []
  const { at, code, requirement, message } = lastError
  const what = [code === '' ? 'internal' : code, ...requirement === '' ? [] : [requirement]].join(' ')
  const where = message.startsWith(name) ? message : `${name}: ${message}`
  return [['Last error', `${what}: ${where}, ${formatInstant(at, now)}`]]
}

function formatConsumers ({ consumers, consumerEntryIds }: Partner): string {
  if (consumers === 0n) return 'no entries'
  const more = Number(consumers) - consumerEntryIds.length
  const ids = [...consumerEntryIds, ...more > 0 ? [`${more} more`] : []]
  return `${counted(Number(consumers), 'entry has', 'entries have')} its bundle: ${ids.join(', ')}`
}

/** `in 2h5m`, `3m ago`, with the instant itself. */
function formatInstant (at: bigint, now: bigint): string {
  const ms = Number(at - now)
  const time = formatTime(new Date(Number(at)))
  const length = formatDuration(Math.floor(Math.abs(ms) / 1_000) * 1_000)
  return ms > 0 ? `in ${length} (${time})` : `${length} ago (${time})`
}
