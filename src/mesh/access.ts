import { trustDomainId } from '../spiffe/spiffe-id.ts'
import type { CallerPattern, MeshService, MeshSettings, MeshWorkload, Plaintext } from './mesh-state.ts'

export interface PortAccess {
  readonly port: number
  readonly http: boolean
  readonly callers: readonly CallerPattern[]
}

/** Who may call a workload, port by port. */
export interface Access {
  /** Ports of services it answers for. */
  readonly ports: readonly PortAccess[]
  /** Of all its other ports. */
  readonly others: readonly CallerPattern[]
  readonly plaintext: Plaintext
}

const strictest: readonly Plaintext[] = ['refuse', 'redirect', 'permit']

/** Of several services on one port a caller needs only one to let it in; of several ways to treat plaintext the strictest holds. */
export function accessTo ({ id }: MeshWorkload, services: readonly MeshService[], { trustDomain }: MeshSettings): Access {
  const own = services.filter(({ spiffeIds }) => spiffeIds.includes(id))
  const everybody = [`${trustDomainId(trustDomain)}/*`]
  const ports = new Map<number, { http: boolean, callers: Set<CallerPattern> }>()
  for (const { ports: offered, callers = everybody } of own) {
    for (const { targetPort, protocol } of offered) {
      const one = ports.get(targetPort) ?? { http: protocol !== 'tcp', callers: new Set() }
      // HTTP is read only where all agree that it is.
      if (protocol === 'tcp') one.http = false
      for (const caller of callers) one.callers.add(caller)
      ports.set(targetPort, one)
    }
  }
  const asked = new Set(own.map(({ plaintext = 'refuse' }) => plaintext))
  return {
    ports: [...ports].toSorted(([a], [b]) => a - b).map(([port, { http, callers }]) => ({ port, http, callers: [...callers].toSorted() })),
    others: everybody,
    plaintext: strictest.find(one => asked.has(one)) ?? 'refuse'
  }
}
