import type { Fact } from './facts.ts'
import type { Match } from './match.ts'
import { tlsVersions, type ConditionDocument, type OperationDocument, type PolicyDocument, type SourceDocument } from './policy-schema.ts'
import type { Rule, Test } from './rule.ts'

/** The rules of one of Assay's own documents, in its order. */
export function rulesOf (document: PolicyDocument): Rule[] {
  const target = targetTests(document.workloads ?? {})
  return document.rules.flatMap(({ name, action, provider, from, to, when }) => {
    const common = {
      name: `${document.name}/${name}`,
      policy: document.name,
      action,
      provider,
      from: from?.map(sourceTests),
      when: when?.flatMap(conditionTests) ?? [],
      shadow: document.mode === 'shadow'
    }
    if (to === undefined) return [{ ...common, target, to: undefined }]
    // Which workload it is about belongs to the target: it is for those that the rule makes refuse the rest.
    const anywhere = to.filter(one => targetTests(one).length === 0)
    return [
      ...anywhere.length === 0 ? [] : [{ ...common, target, to: anywhere.map(operationTests) }],
      ...to.filter(one => targetTests(one).length > 0).map(one => {
        const tests = operationTests(one)
        return { ...common, target: [...target, ...targetTests(one)], to: tests.length === 0 ? undefined : [tests] }
      })
    ]
  })
}

type TargetDocument = Pick<OperationDocument, 'ids' | 'notIds' | 'selectors'>

function targetTests ({ ids, notIds, selectors }: TargetDocument): Test[] {
  return [...test({ name: 'destination.id' }, ids, notIds), ...selected({ name: 'destination.id' }, selectors)]
}

function sourceTests (source: SourceDocument): Test[] {
  const id: Fact = { name: 'source.id' }
  return [
    ...test(id, source.ids, source.notIds),
    ...test(id, source.trustDomains, source.notTrustDomains),
    ...selected(id, source.selectors),
    ...test({ name: 'jwt.principal' }, source.requestPrincipals, source.notRequestPrincipals),
    ...test({ name: 'source.address' }, source.addresses, source.notAddresses),
    ...test({ name: 'source.remoteAddress' }, source.remoteAddresses, source.notRemoteAddresses)
  ]
}

function operationTests (operation: OperationDocument): Test[] {
  return [
    ...test({ name: 'destination.port' }, operation.ports, operation.notPorts),
    ...test({ name: 'host' }, operation.hosts, operation.notHosts),
    ...test({ name: 'method' }, operation.methods, operation.notMethods),
    ...test({ name: 'path' }, operation.paths, operation.notPaths),
    ...(operation.headers ?? []).flatMap(({ name, values, notValues }) =>
      test({ name: 'header', header: name.toLowerCase() }, values, notValues)),
    ...operation.grpc === undefined ? [] : [
      ...test({ name: 'method' }, [exact('POST')]),
      ...test({ name: 'path' }, operation.grpc.flatMap(({ service, methods }): Match[] =>
        methods?.map(method => exact(`/${service}/${method}`)) ?? [{ kind: 'prefix', value: `/${service}/` }]))
    ]
  ]
}

function conditionTests ({ time, notTime, tls, sni, claim, audience, presenter }: ConditionDocument): Test[] {
  return [
    ...time === undefined ? [] : test({ name: 'time' }, [{ kind: 'window', window: time }]),
    ...notTime === undefined ? [] : test({ name: 'time' }, undefined, [{ kind: 'window', window: notTime }]),
    ...tls === undefined ? [] : test({ name: 'tls.version' }, [{ kind: 'atLeast', order: tlsVersions, value: tls.atLeast }]),
    ...sni === undefined ? [] : test({ name: 'tls.sni' }, sni.values, sni.notValues),
    ...claim === undefined ? [] : test({ name: 'claim', path: [claim.path].flat() }, claim.values, claim.notValues),
    ...audience === undefined ? [] : test({ name: 'jwt.audience' }, audience.values, audience.notValues),
    ...presenter === undefined ? [] : test({ name: 'jwt.presenter' }, presenter.values, presenter.notValues)
  ]
}

function test (fact: Fact, any: readonly Match[] | undefined, none?: readonly Match[]): Test[] {
  return any === undefined && none === undefined ? [] : [{ fact, any, none }]
}

function selected (fact: Fact, selectors: readonly string[] | undefined): Test[] {
  return selectors === undefined ? [] : [{ fact, any: [{ kind: 'selected', selectors }] }]
}

function exact (value: string): Match { return { kind: 'exact', value } }
