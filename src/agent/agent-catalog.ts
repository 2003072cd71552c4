import { httpAttestorPlugin } from '../attestation/node/http-challenge/http-attestor-plugin.ts'
import { joinTokenPlugin } from '../attestation/node/join-token/join-token-plugin.ts'
import { satRefusal } from '../attestation/node/k8s-psat/cluster-name.ts'
import { psatAttestorPlugin } from '../attestation/node/k8s-psat/psat-attestor-plugin.ts'
import type { NodeAttestor } from '../attestation/node/node-attestor.ts'
import { sshAttestorPlugin } from '../attestation/node/sshpop/ssh-attestor-plugin.ts'
import type { FetchWorkloadSvid } from '../attestation/node/x509pop/pop-attestor.ts'
import { popAttestorPlugin } from '../attestation/node/x509pop/pop-attestor-plugin.ts'
import { dockerPlugin } from '../attestation/workload/docker/docker-plugin.ts'
import { k8sPlugin } from '../attestation/workload/k8s/k8s-plugin.ts'
import { slurmPlugin } from '../attestation/workload/slurm/slurm-plugin.ts'
import { systemdPlugin } from '../attestation/workload/systemd/systemd-plugin.ts'
import { unixPlugin } from '../attestation/workload/unix/unix-plugin.ts'
import type { WorkloadAttestor } from '../attestation/workload/workload-attestor.ts'
import { startExternalNodeAttestor } from '../pluginhost/node-attestor.ts'
import type { PluginHost } from '../pluginhost/plugin-host.ts'
import { startExternalSvidStore } from '../pluginhost/svid-store.ts'
import { startExternalWorkloadAttestor } from '../pluginhost/workload-attestor.ts'
import type { Catalog } from '../plugins/catalog.ts'
import type { SvidStore } from '../plugins/svid-store.ts'
import type { AgentStateStore } from './agent-state.ts'
import { fileSealingPlugin } from './sealing/file-sealing-plugin.ts'
import { keyringSealingPlugin } from './sealing/keyring-sealing-plugin.ts'
import type { Sealing } from './sealing/sealing.ts'
import { diskStatePlugin, memoryStatePlugin } from './agent-state-plugins.ts'

export interface AgentPlugins {
  /** Under SPIRE's name; it keeps the agent's SVID and bundle beside its key (docs/adr/0004). */
  readonly KeyManager: AgentStateStore & AsyncDisposable
  /** Keeps the cache from those who see a copy of it. */
  readonly Sealing: Sealing & AsyncDisposable
  readonly NodeAttestor: NodeAttestor & AsyncDisposable
  readonly WorkloadAttestor: WorkloadAttestor & AsyncDisposable
  readonly SVIDStore: SvidStore
}

export interface AgentPluginHost extends PluginHost {
  readonly dataDir: string
  readonly fetchWorkloadSvid: FetchWorkloadSvid
  /** @throws {SpiffeError} `config_invalid` when the agent was given none; `file_unusable` */
  readonly readJoinToken: () => Promise<string>
}

const storeRefusal = 'is not offered yet: SVIDs go to no store of a cloud; programs get them from the Workload API, or as files ' +
  '(assay files)'

export const agentCatalog: Catalog<AgentPlugins, AgentPluginHost> = {
  KeyManager: { use: 'one', plugins: [diskStatePlugin, memoryStatePlugin] },
  Sealing: { use: 'one', plugins: [fileSealingPlugin, keyringSealingPlugin] },
  NodeAttestor: {
    use: 'one',
    plugins: [joinTokenPlugin, psatAttestorPlugin, popAttestorPlugin, sshAttestorPlugin, httpAttestorPlugin],
    refused: { k8s_sat: satRefusal },
    external: startExternalNodeAttestor
  },
  WorkloadAttestor: {
    use: 'several', plugins: [unixPlugin, systemdPlugin, k8sPlugin, dockerPlugin, slurmPlugin], external: startExternalWorkloadAttestor
  },
  SVIDStore: {
    use: 'any',
    plugins: [],
    refused: { aws_secretsmanager: storeRefusal, gcp_secretmanager: storeRefusal },
    external: startExternalSvidStore
  }
}
