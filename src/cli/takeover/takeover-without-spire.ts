import type { Channel } from '../../rpc/channel.ts'
import { systemClock } from '../../runtime/clock.ts'
import { codeOf, SpiffeError } from '../../spiffe/errors.ts'
import type { LookedWithoutSpire, TakeoverWithoutSpire } from '../../takeover/without-spire.ts'
import type { ExitCode } from '../command.ts'
import { formatJson } from '../json-output.ts'
import { serverSocketPath } from '../socket-path.ts'
import { encodeWithoutSpire, formatWithoutSpire } from './format-without-spire.ts'
import { openSpire, reachable, stateFile, type TakeoverCall } from './takeover-flags.ts'
import { lockTakeover } from './takeover-lock.ts'

/** A call of a command that has the flag `-spireGone`. */
interface MaybeGoneCall extends TakeoverCall { readonly flags: TakeoverCall['flags'] & { readonly spireGone: boolean } }

/** Whether SPIRE's server is gone for good, as the operator says, or said when the takeover was ended. */
export async function isWithoutSpire ({ flags }: MaybeGoneCall): Promise<boolean> {
  if (flags.spireGone) return true
  const { readJournal } = await import('../../takeover/journal.ts')
  return (await readJournal(stateFile(flags)))?.spireGoneAt !== undefined
}

/** @throws {SpiffeError} `server_unreachable` where ours is; whatever it refuses with */
export async function withoutSpire<T> (
  call: TakeoverCall, use: (takeover: TakeoverWithoutSpire, ours: Channel) => Promise<T>
): Promise<T> {
  const { flags, terminal } = call
  const [{ openUnixChannel }, { TakeoverWithoutSpire }] = await Promise.all([
    import('../../rpc/channel.ts'), import('../../takeover/without-spire.ts')
  ])
  await using scope = new AsyncDisposableStack()
  const path = serverSocketPath(flags, terminal.environment)
  const [file, { signal }] = [stateFile(flags), terminal]
  const ours = scope.use(await reachable(openUnixChannel(path), 'server', path, signal))
  const takeover = new TakeoverWithoutSpire({
    ours, file, lock: () => lockTakeover(file, signal), clock: systemClock, signal, answers: () => spireAnswers(call)
  })
  return await use(takeover, ours)
}

/** A refusal is an answer, too. */
async function spireAnswers ({ flags, terminal }: TakeoverCall): Promise<boolean> {
  const { channel, at } = await openSpire(flags, terminal)
  try {
    const answering = await reachable(channel, 'SPIRE server', at, terminal.signal)
    await answering[Symbol.asyncDispose]()
    return true
  } catch (error) {
    if (terminal.signal.aborted) throw error
    return codeOf(error) !== 'server_unreachable' && (error as { status?: string }).status !== 'DEADLINE_EXCEEDED'
  }
}

/** First what is lost, then the end. As JSON it is one document: what is so then, or, where the end is refused, what is so now. */
export async function finishWithoutSpire (
  call: TakeoverCall & { readonly flags: { readonly force: boolean } }, takeover: TakeoverWithoutSpire
): Promise<ExitCode> {
  const { flags: { force, output } } = call
  const before = await takeover.look()
  if (output === 'pretty') tellWithoutSpire(call, before)
  try {
    const ended = await takeover.finish({ force })
    if (output === 'json') tellWithoutSpire(call, ended)
    else call.terminal.out('\nThe takeover is finished, without SPIRE\'s server: agents that are left may still move\n')
    return 0
  } catch (error) {
    if (output === 'json') tellWithoutSpire(call, before)
    throw error
  }
}

export function tellWithoutSpire ({ flags, terminal }: TakeoverCall, looked: LookedWithoutSpire): void {
  terminal.out(flags.output === 'json' ? `${formatJson(encodeWithoutSpire(looked))}\n` : formatWithoutSpire(looked))
}

export function nobodyToGoBackTo (): SpiffeError {
  return new SpiffeError('takeover_spire_gone', 'there is no SPIRE server to go back to, so nothing that was copied here is taken ' +
    'away. Restore SPIRE\'s server with its database and keys, and roll back without -spireGone; or end it here: ' +
    'assay takeover finish -spireGone')
}
