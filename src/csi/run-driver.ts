import { bind, openRpcServer } from '../rpc/server.ts'
import type { Clock } from '../runtime/clock.ts'
import type { Logger } from '../runtime/logger.ts'
import { untilAborted } from '../runtime/until-aborted.ts'
import { csiIdentityService, csiNodeService } from '../wire/generated/csi.ts'
import { kubeletRegistrationService } from '../wire/generated/kubelet-registration.ts'
import { identityHandlers } from './identity-handlers.ts'
import type { MountCalls } from './mount-calls.ts'
import { nodeHandlers } from './node-handlers.ts'
import { registrationHandlers } from './registration-handlers.ts'
import { Volumes, type VolumesConfig } from './volumes.ts'

export interface DriverConfig extends VolumesConfig {
  readonly driverName: string
  readonly nodeId: string
  /** Where CSI's services listen; kubelet and driver must see it at the same path. */
  readonly csiSocket: string
  /** Where the kubelet finds the driver; `undefined`: another program says where it is. */
  readonly registrationSocket: string | undefined
}

export interface DriverDeps {
  readonly calls: MountCalls
  readonly clock: Clock
  readonly log: Logger
}

/** A kubelet on this machine, and probes beside it. */
const limits = { maxConnections: 64, maxStreamsPerConnection: 100 }

/**
 * The node's CSI driver until the signal aborts. Volumes outlive it.
 * @throws {SpiffeError} `socket_in_use`, `file_unusable`
 */
export async function runDriver (config: DriverConfig, { calls, clock, log }: DriverDeps, signal: AbortSignal): Promise<void> {
  const { driverName, nodeId, csiSocket, registrationSocket, source, kubeletDir } = config
  const volumes = new Volumes(config, calls)
  await using scope = new AsyncDisposableStack()
  const csi = scope.use(openRpcServer({
    services: [bind(csiIdentityService, identityHandlers({ driverName, volumes })),
      bind(csiNodeService, nodeHandlers({ nodeId, volumes, log }))],
    log, clock, limits
  }))
  // Root's alone: who may call can have mounts made and ended.
  await csi.listenUnix({ path: csiSocket, mode: 0o600 })
  if (registrationSocket !== undefined) {
    const registration = scope.use(openRpcServer({
      services: [bind(kubeletRegistrationService, registrationHandlers({ driverName, endpoint: csiSocket, log }))], log, clock, limits
    }))
    // After the other, which the kubelet calls as soon as it has read of it.
    await registration.listenUnix({ path: registrationSocket, mode: 0o600 })
  }
  log.info({ driver: driverName, node: nodeId, socket: csiSocket, source, kubeletDir, ready: volumes.ready }, 'CSI driver is serving')
  await untilAborted(signal)
}
