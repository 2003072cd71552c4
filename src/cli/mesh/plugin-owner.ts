import type { ApiServer } from '../../attestation/kubernetes/api-server.ts'
import type { Logger } from '../../runtime/logger.ts'
import { isJsonObject, type JsonObject, type JsonValue } from '../../spiffe/strict-json.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { usage } from '../parse-flags.ts'

/** The DaemonSet whose container keeps the plugin. */
export interface PluginOwner { readonly namespace: string, readonly name: string, readonly container: string }

/** @param text NAMESPACE/NAME/CONTAINER */
export function parsePluginOwner (text: string): PluginOwner {
  const [, namespace, name, container] = /^([a-z0-9-]+)\/([a-z0-9.-]+)\/([a-z0-9-]+)$/.exec(text) ?? []
  if (namespace === undefined || name === undefined || container === undefined) throw usage('-owner must be NAMESPACE/DAEMONSET/CONTAINER')
  return { namespace, name, container }
}

/**
 * Whether the cluster still wants the plugin: an agent that is upgraded leaves it, one that is uninstalled or is to go on without the mesh
 * does not. Rights that are gone went with it; an API server that does not answer says nothing, and the plugin stays.
 */
export async function isPluginWanted (owner: PluginOwner, api: ApiServer, log: Logger, signal: AbortSignal): Promise<boolean> {
  const { namespace, name, container } = owner
  try {
    const found = await api.get(`/apis/apps/v1/namespaces/${namespace}/daemonsets/${name}`, signal)
    return found !== undefined && objectIn(found, 'metadata')['deletionTimestamp'] === undefined && namesContainer(found, container)
  } catch (error) {
    if (!(error instanceof SpiffeError) && !signal.aborted) throw error
    const status = error instanceof SpiffeError ? error.details?.['status'] : undefined
    log.warn({ reason: (error as Error).message }, 'the cluster does not say whether the plugin is still wanted')
    return status !== 401 && status !== 403
  }
}

function namesContainer (daemonSet: JsonObject, name: string): boolean {
  const { containers } = ['spec', 'template', 'spec'].reduce<JsonObject>((object, key) => objectIn(object, key), daemonSet)
  return Array.isArray(containers) && containers.some(container => isJsonObject(container) && container['name'] === name)
}

function objectIn (object: JsonObject, key: string): JsonObject {
  const value: JsonValue | undefined = object[key]
  return isJsonObject(value) ? value : {}
}
