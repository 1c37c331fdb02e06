"""The shape that each answer of Hydrus' API that is used here has to have (`tagcheck.json_files`); more keys may be there."""

from typing import Any

from tagcheck.json_files import Shape, either, flag, list_of, map_of, matching, null, number, record, string, whole

sha256 = matching(r"[0-9a-f]{64}", "a hash")


def page(value: Any) -> None:
    PAGE(value)


PAGE = record({"name": string, "page_key": string}, {"is_media_page": flag, "pages": list_of(page)})
TAGS = map_of(list_of(string))  # by status
NUMBERS = dict.fromkeys(("size", "width", "height", "duration"), number())
FLAGS = dict.fromkeys(("is_local", "is_deleted", "is_trashed"), flag)
TIMES = map_of(record(optional={"time_imported": number()}))
ROW = record(
    {"hash": sha256, "file_id": either(whole(), null)},
    NUMBERS
    | FLAGS
    | {"mime": string, "pixel_hash": string, "file_services": record(optional={"current": TIMES})}
    | {"tags": map_of(record(optional={"storage_tags": TAGS, "display_tags": TAGS}))},
)
SERVICES = list_of(record({"service_key": string, "name": string}))
SAME = dict.fromkeys(("siblings", "ancestors", "descendants"), list_of(string))
RELATION = record({"ideal_tag": string, **SAME})
POPUP = record({"key": string}, {"is_cancelled": flag, "status_title": string})
SHOWN = record({"job_status": POPUP})
PAGE_INFO = record(optional={"page_state": whole(), "media": record(optional={"hashes": list_of(sha256)})})
RELATED = record(dict.fromkeys("0138", list_of(string)))
ANSWERS: dict[str, Shape] = {
    "/api_version": record({"version": whole()}, {"hydrus_version": whole()}),
    "/verify_access_key": record(
        optional={"name": string, "basic_permissions": list_of(whole()), "human_description": string}
    ),
    "/client_info": record(optional={"boot_id": string}),
    "/get_services": record(optional={"local_tags": SERVICES, "tag_repositories": SERVICES}),
    "/manage_pages/get_pages": record({"pages": page}),
    "/manage_pages/get_page_info": record({"page_info": PAGE_INFO}),
    "/get_files/search_files": record({"hashes": list_of(sha256)}),
    "/get_files/file_metadata": record({"metadata": list_of(ROW)}),
    "/add_tags/clean_tags": record({"tags": list_of(string)}),
    "/add_tags/get_siblings_and_parents": record({"tags": map_of(map_of(RELATION), string)}),
    "/manage_file_relationships/get_file_relationships": record({"file_relationships": map_of(RELATED)}),
    "/manage_popups/add_popup": SHOWN,
    "/manage_popups/update_popup": SHOWN,
    "/manage_popups/get_popups": record({"job_statuses": list_of(POPUP)}),
}
