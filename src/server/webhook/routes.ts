import type { Logger } from '../../lib/logger.js';
import type { HttpCall, HttpRoute } from '../../rpc/http/route.js';
import { callLogger } from '../../rpc/request-id.js';
import { StatusError } from '../../rpc/service.js';
import { checkVolumes, planInjection, type InjectionContext, type InjectionPlan } from '../injection/plan.js';
import { readPodReview, reviewAnswer, type PodReview, type ReviewAnswer } from './admission-review.js';

/** What became of a pod, for metrics. */
export type WebhookOutcome = 'patched' | 'unchanged' | 'refused' | 'invalid';

/** What the webhook is made of. */
export interface WebhookParts extends Omit<InjectionContext, 'namespace'> {
  readonly logger: Logger;
  readonly observe?: (outcome: WebhookOutcome) => void;
}

/** Where the API server asks for what is to be added to a pod. */
export const INJECT_PATH = '/v1/inject';
/** Where it asks for warnings about volumes that were written by hand. */
export const CHECK_PATH = '/v1/check';

/**
 * The webhook's routes. An answer rests on the question alone: it changes nothing, asks nobody and reveals nothing, so that
 * whoever reaches the port may ask, a dry run is no special case, and all replicas answer alike.
 */
export function webhookRoutes(parts: WebhookParts): readonly HttpRoute[] {
  const { logger, observe } = parts;
  const route = (path: string, answer: (review: PodReview, call: HttpCall) => ReviewAnswer): HttpRoute => ({
    ...{ method: 'POST', path },
    handle(call) {
      const review = reviewOf(call);
      if (typeof review === 'string') {
        observe?.('invalid');
        throw new StatusError('InvalidArgument', `the body ${review}`);
      }
      return { status: 200, body: reviewAnswer(review.uid, answer(review, call)) };
    },
  });
  return [
    route(INJECT_PATH, ({ uid, namespace, pod }, { context }) => {
      const plan = planInjection(pod, { ...parts, namespace });
      observe?.(outcomeOf(plan));
      if (plan.do === 'refuse')
        callLogger(logger, context).info('a pod is refused', {
          ...{ review: uid, namespace, reason: messageOf(plan.problems) },
        });
      return answerOf(plan);
    }),
    route(CHECK_PATH, ({ pod }) => ({ allowed: true, warnings: checkVolumes(pod, parts) })),
  ];
}

function reviewOf({ body }: HttpCall): PodReview | string {
  return body === undefined ? 'is missing' : readPodReview(body);
}

function outcomeOf(plan: InjectionPlan): WebhookOutcome {
  if (plan.do === 'refuse') return 'refused';
  return plan.do === 'patch' ? 'patched' : 'unchanged';
}

function answerOf(plan: InjectionPlan): ReviewAnswer {
  switch (plan.do) {
    case 'refuse':
      return { allowed: false, message: messageOf(plan.problems) };
    case 'patch':
      return { allowed: true, patch: plan.patch, warnings: plan.warnings };
    case 'nothing':
      return { allowed: true, warnings: plan.warnings };
  }
}

function messageOf(problems: readonly { readonly field: string; readonly message: string }[]): string {
  return problems.map(({ field, message }) => `${field}: ${message}`).join('; ');
}
