import { SpiffeError } from '../../../spiffe/errors.ts'
import type { Selector } from '../../../spiffe/selector.ts'
import type { WorkloadAttestor } from '../workload-attestor.ts'
import { DbusConnection, DbusError } from './dbus-connection.ts'

const systemd = 'org.freedesktop.systemd1'

export interface SystemdAttestorConfig {
  /** Socket of the system's message bus. */
  readonly busSocketPath: string
}

/**
 * SPIRE's `systemd` attestor: `id`, the unit a process belongs to (`nginx.service`), and `fragment_path`, the file the unit comes from.
 * Asks systemd over the system's message bus. A process of no unit has no selectors; a unit without a file has an empty path, as in SPIRE.
 */
export function createSystemdAttestor ({ busSocketPath }: SystemdAttestorConfig): WorkloadAttestor & Disposable {
  /** One for all: a bus limits how many a user may have. */
  let opening: Promise<DbusConnection> | undefined
  let open: DbusConnection | undefined
  return {
    name: 'systemd',
    async attest ({ pid }, signal) {
      try {
        const bus = await connection(signal)
        const unit = await unitOf(pid, bus, signal)
        if (unit === undefined) return []
        const [id, fragmentPath] = await Promise.all(['Id', 'FragmentPath'].map(name => property(unit, name, bus, signal)))
        return [`id:${id}`, `fragment_path:${fragmentPath}`].map((value): Selector => ({ type: 'systemd', value }))
      } catch (error) {
        if (signal.aborted || error instanceof SpiffeError) throw error
        throw new SpiffeError('workload_attestation_failed', `systemd at ${busSocketPath}: ${(error as Error).message}`, { cause: error })
      }
    },
    [Symbol.dispose] () {
      open?.[Symbol.dispose]()
      opening?.then(made => made[Symbol.dispose](), () => {})
    }
  }

  async function connection (signal: AbortSignal): Promise<DbusConnection> {
    if (open?.isOpen === true) return open
    // Somebody else's attempt ends when they go away.
    const made = await opening?.catch(() => undefined)
    if (made !== undefined) return made
    opening ??= DbusConnection.open(busSocketPath, signal).then(made => open = made).finally(() => { opening = undefined })
    return await opening
  }
}

/** The object that stands for the unit; `undefined`: the process belongs to none. */
async function unitOf (pid: number, bus: DbusConnection, signal: AbortSignal): Promise<string | undefined> {
  try {
    const manager = { destination: systemd, path: '/org/freedesktop/systemd1', interface: `${systemd}.Manager` }
    const [path] = await bus.call({ ...manager, member: 'GetUnitByPID', signature: 'u', body: [pid] }, signal)
    return textOf(path)
  } catch (error) {
    if (error instanceof DbusError && error.errorName === `${systemd}.NoUnitForPID`) return undefined
    throw error
  }
}

async function property (path: string, name: string, bus: DbusConnection, signal: AbortSignal): Promise<string> {
  const properties = { destination: systemd, path, interface: 'org.freedesktop.DBus.Properties' }
  const [value] = await bus.call({ ...properties, member: 'Get', signature: 'ss', body: [`${systemd}.Unit`, name] }, signal)
  return textOf(value)
}

function textOf (value: unknown): string {
  if (typeof value === 'string') return value
  throw new SpiffeError('workload_attestation_failed', 'systemd answered with something else than a text')
}
