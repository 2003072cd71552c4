import type { Channel } from '../../rpc/channel.ts'
import { systemClock } from '../../runtime/clock.ts'
import { silentLogger } from '../../runtime/logger.ts'
import { codeOf, SpiffeError } from '../../spiffe/errors.ts'
import type { Takeover } from '../../takeover/takeover.ts'
import { tlsFilesOf, tlsOfFiles } from '../authz/tls-files.ts'
import { explainUnreachable } from '../channel-call.ts'
import { pathFlag, switchFlag, textFlag, type FlagValues } from '../flag.ts'
import { openStepProgress } from '../progress.ts'
import { usage } from '../parse-flags.ts'
import { outputFlag, serverFlags, serverSocketPath } from '../socket-path.ts'
import type { Terminal } from '../terminal.ts'
import { ourAttestors } from './our-attestors.ts'
import { lockTakeover } from './takeover-lock.ts'

const defaultState = 'takeover.json'
const spireSocket = '/tmp/spire-server/private/api.sock'

/** Flags of every command of a takeover. */
export const takeoverFlags = {
  spireSocketPath: pathFlag('SPIRE\'s admin socket', {
    placeholder: 'PATH', defaultText: `$SPIRE_SERVER_PRIVATE_SOCKET or ${spireSocket}`
  }),
  spireAddress: textFlag('SPIRE\'s server over TCP instead, with -svid, -svidKey and -bundle', { placeholder: 'HOST:PORT' }),
  svid: pathFlag('certificate chain (PEM) of an X509-SVID that administers SPIRE'),
  svidKey: pathFlag('its private key (PEM)'),
  bundle: pathFlag('the trust domain\'s bundle, by which SPIRE\'s server is known: a SPIFFE bundle (JSON) or CA certificates (PEM)'),
  ...serverFlags,
  state: pathFlag('what the takeover has done: written before it is done', { defaultText: defaultState }),
  output: outputFlag
}

/** Of commands that refuse what would break somebody. */
export const forceFlag = switchFlag('go on though somebody breaks, who is named')

/** Of commands that there is something to do for once SPIRE's server is gone. */
export const spireGoneFlag = switchFlag('SPIRE\'s server is gone for good: go by our server and the state file alone')

export interface TakeoverCall { readonly flags: FlagValues<typeof takeoverFlags>, readonly terminal: Terminal }

/** @throws {SpiffeError} `server_unreachable`; whatever either server refuses with */
export async function withTakeover<T> (
  call: TakeoverCall, use: (takeover: Takeover, servers: { readonly there: Channel, readonly ours: Channel }) => Promise<T>
): Promise<T> {
  const { flags, terminal } = call
  // Loaded only now: help, completion and wrong usage need no gRPC.
  const [{ openUnixChannel }, { Takeover }, { readJournal }, { requireSpire }] = await Promise.all([
    import('../../rpc/channel.ts'), import('../../takeover/takeover.ts'), import('../../takeover/journal.ts'),
    import('../../takeover/refusals.ts')
  ])
  await using scope = new AsyncDisposableStack()
  const path = serverSocketPath(flags, terminal.environment)
  const spire = await openSpire(flags, terminal)
  const [file, { signal }] = [stateFile(flags), terminal]
  requireSpire(await readJournal(file))
  const ours = scope.use(await reachable(openUnixChannel(path), 'server', path, signal))
  const there = scope.use(await reachable(spire.channel, 'SPIRE server', spire.at, signal).catch(orGone))
  const progress = scope.use(openStepProgress(terminal))
  const takeover = new Takeover({
    there, ours, file, lock: () => lockTakeover(file, signal), clock: systemClock, attestors: await ourAttestors(), signal,
    onProgress: progress.show
  })
  return await use(takeover, { there, ours })
}

export function stateFile ({ state = defaultState }: Pick<TakeoverCall['flags'], 'state'>): string { return state }

/** One that is away may come back; one that is gone for good will not, however often a command is repeated. */
function orGone (error: unknown): never {
  if (codeOf(error) !== 'server_unreachable') throw error
  throw new SpiffeError('server_unreachable',
    `${(error as Error).message}; if it is gone for good, see \`assay takeover plan -spireGone\``, { cause: error })
}

/** How SPIRE's server is asked. @throws {SpiffeError} `usage_invalid` */
export async function openSpire (flags: TakeoverCall['flags'], { environment }: Terminal): Promise<{ channel: Channel, at: string }> {
  const { openTlsChannel, openUnixChannel } = await import('../../rpc/channel.ts')
  const files = tlsFilesOf(flags)
  if (flags.spireAddress === undefined) {
    if (files !== undefined) throw usage('-svid, -svidKey and -bundle are for -spireAddress')
    const at = flags.spireSocketPath ?? environment['SPIRE_SERVER_PRIVATE_SOCKET'] ?? spireSocket
    return { channel: openUnixChannel(at), at }
  }
  if (files === undefined) throw usage('-spireAddress needs -svid, -svidKey and -bundle')
  if (flags.spireSocketPath !== undefined) throw usage('give -spireAddress or -spireSocketPath')
  const { verifyServerWith } = await import('../../rpc/verify-server.ts')
  const { readBundleText } = await import('../read-bundle.ts')
  const { readFileSync } = await import('node:fs')
  const tls = tlsOfFiles(files, [])
  const bundle = readBundleText(readFileSync(files.bundle, 'utf8'), { name: files.bundle })
  return {
    channel: openTlsChannel({
      address: flags.spireAddress, identity: () => tls.identity(), log: silentLogger,
      verifyServer: verifyServerWith(() => bundle, systemClock)
    }),
    at: flags.spireAddress
  }
}

/** Which of the two does not answer is said before anything is done. @throws {SpiffeError} `server_unreachable` */
export async function reachable (channel: Channel, whose: string, at: string, signal: AbortSignal): Promise<Channel> {
  const { bundleService } = await import('../../wire/generated/server-bundle.ts')
  try {
    await channel.client(bundleService).getBundle({ outputMask: {} }, { signal, timeoutMs: probeTimeoutMs })
    return channel
  } catch (error) {
    await channel[Symbol.asyncDispose]()
    throw explainUnreachable(error, whose, at)
  }
}

const probeTimeoutMs = 10_000
