import type { CallContext } from '../rpc/call.ts'
import type { Logger } from '../runtime/logger.ts'
import { SpiffeError } from '../spiffe/errors.ts'
import { type NodeHandlers, NodeServiceCapability_RPC_Type as Capability } from '../wire/generated/csi.ts'
import { parsePublishRequest, parseVolumeId } from './publish-request.ts'
import { parseTargetPath } from './target-path.ts'
import type { Volumes } from './volumes.ts'

export interface NodeDeps {
  readonly nodeId: string
  readonly volumes: Volumes
  readonly log: Logger
}

/** CSI's node service, of ephemeral volumes alone: no stages, no sizes, no topology. */
export function nodeHandlers ({ nodeId, volumes, log }: NodeDeps): NodeHandlers<CallContext> {
  return {
    /** Idempotent. */
    async nodePublishVolume (request) {
      const { volumeId: volume, target, pod } = parsePublishRequest(request)
      if (volumes.publish(target)) log.info({ volume, target, pod }, 'volume published')
      return {}
    },

    /** Idempotent: a volume that is not there is unpublished. */
    async nodeUnpublishVolume ({ volumeId, targetPath }) {
      const volume = parseVolumeId(volumeId)
      const target = parseTargetPath(targetPath, 'target_path')
      if (volumes.unpublish(target)) log.info({ volume, target }, 'volume unpublished')
      return {}
    },

    /** Whether pods still see the agent's folder; there are no numbers to tell. */
    async nodeGetVolumeStats ({ volumeId, volumePath, stagingTargetPath }) {
      const volume = parseVolumeId(volumeId)
      const path = parseTargetPath(volumePath, 'volume_path')
      if (stagingTargetPath !== '') throw new SpiffeError('volume_request_invalid', 'staging_target_path is set, and volumes have no stage')
      const condition = volumes.condition(path)
      if (!condition.ok) log.warn({ volume, path, reason: condition.reason }, 'volume is not as it should be')
      return { volumeCondition: condition.ok ? { message: 'mounted' } : { abnormal: true, message: condition.reason } }
    },

    async nodeGetCapabilities () {
      return { capabilities: [Capability.GET_VOLUME_STATS, Capability.VOLUME_CONDITION].map(type => ({ rpc: { type } })) }
    },

    async nodeGetInfo () { return { nodeId } }
  }
}
